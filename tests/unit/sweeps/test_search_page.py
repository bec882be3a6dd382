"""Page of a search: the best trial, its line, and escaped texts."""

import re
from pathlib import Path

import pytest

from palitune.config.search_space import Categorical, Domain, NumericRange
from palitune.sweeps.search_page import TrialResult, best_trial, write_search_page

SPACE: dict[str, Domain] = {
    "training.learning_rate": NumericRange(1e-4, 1e-2, log=True),
    "adapter.rank": Categorical(("4", "8", "16")),
    "task.template": Categorical(("'<b>{question}</b> and so on and on'",)),
}


def trial(number: int, value: float | None, learning_rate: float, rank: str) -> TrialResult:
    settings = dict(
        zip(SPACE, (learning_rate, rank, "'<b>{question}</b> and so on and on'"), strict=True)
    )
    return TrialResult(
        number=number, folder=str(number), state="failed" if value is None else "done",
        error="" if value is not None else "<i>no</i> box", value=value, params=settings,
    )  # fmt: skip


def test_the_best_trial_is_the_first_of_equals_and_depends_on_the_direction_of_the_metric() -> None:
    trials = [trial(0, None, 1e-3, "4"), trial(1, 0.5, 1e-3, "8"), trial(2, 0.25, 1e-3, "16")]
    trials.append(trial(3, 0.5, 1e-3, "16"))
    chosen = [best_trial(trials, name) for name in ("ocr/exact_match", "ocr/word_error_rate")]
    assert [best and best.number for best in chosen] == [1, 2]
    assert best_trial(trials[:1], "ocr/exact_match") is None


@pytest.mark.parametrize(
    ("learning_rate", "rank", "starts"),
    [(1e-4, "4", "M16 264.0L166 264.0"), (1e-3, "8", "M16 149.0L166 149.0"),
     (1e-2, "16", "M16 34.0L166 34.0")],
)  # fmt: skip
def test_a_line_connects_the_values_of_its_trial(
    learning_rate: float, rank: str, starts: str, tmp_path: Path
) -> None:
    trials = [trial(0, 0.5, learning_rate, rank), trial(1, None, 1e-3, "4")]
    page = write_search_page(tmp_path, "ocr/exact_match", SPACE, trials, {}, 2).read_text()
    (path,) = re.findall(r'class="trial best".*?d="([^"]+)"', page)
    assert path.startswith(starts)
    assert "<b>{question}" not in page.split("</style>")[1]
    assert "&lt;i&gt;no&lt;/i&gt; box" in page


def test_a_search_without_a_metric_yet_has_a_page(tmp_path: Path) -> None:
    page = write_search_page(
        tmp_path, "ocr/exact_match", SPACE, [trial(0, None, 1e-3, "4")], {}, 2
    ).read_text()
    assert "<svg" not in page
    assert "0 of 2" in page
