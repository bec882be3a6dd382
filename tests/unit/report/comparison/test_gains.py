"""Changes by training on several parts of every run."""

import json
from pathlib import Path

import pytest

from palitune.report.comparison.compare import compare_runs
from palitune.report.comparison.files import to_markdown
from palitune.report.comparison.gains import collect_gains
from palitune.report.comparison.page import write_comparison_page

from support.comparison_runs import WEAK_ANSWERS, write_run


def adapted(folder: Path, weight: float, forgotten: float, *, before: bool = True) -> str:
    """Write a run on two parts, one of them better after training, the other one worse."""
    write_run(folder, WEAK_ANSWERS, part="target", metrics=["exact_match"])
    lines = (folder / "predictions.jsonl").read_text()
    (folder / "predictions.jsonl").write_text(lines + lines.replace('"target"', '"source"'))
    values = {"target/exact_match": (0.2, 0.6, 0.4), "source/exact_match": (0.9, 0.9 - forgotten)}
    metrics = {
        "split": "test",
        "examples": {"target": 12, "source": 12},
        "before": {name: both[0] for name, both in values.items()} if before else None,
        "after": {name: both[1] for name, both in values.items()},
        "intervals": {
            "difference": {
                "target/exact_match": [0.3, 0.5],
                "source/exact_match": [-forgotten - 0.1, 0.1 - forgotten],
            }
        },
    }
    (folder / "metrics.json").write_text(json.dumps(metrics))
    config = (folder / "config.yaml").read_text()
    config = config.replace(
        "data: {path: digits, max_samples: null}",
        f"data: {{parts: {{target: {{weight: 3.0}}, source: {{weight: {weight}}}}}}}",
    )
    (folder / "config.yaml").write_text(config)
    return str(folder)


def test_gains_are_shown_next_to_losses(tmp_path: Path) -> None:
    runs = [adapted(tmp_path / "a", 0.0, 0.4), adapted(tmp_path / "b", 1.0, 0.05)]
    compared = compare_runs(runs)
    gains = collect_gains(compared.tables)
    assert gains is not None
    assert gains.titles == ("target exact_match", "source exact_match")
    assert [label for label, _ in gains.rows] == ["source weight 0.0", "source weight 1.0"]
    text = to_markdown(compared)
    first = "0.200 → 0.600<br>+0.400 [+0.300, +0.500] better"
    assert f"| {first} | 0.900 → 0.500<br>−0.400 [−0.500, −0.300] worse |" in text
    assert f"| {first} | 0.900 → 0.850<br>−0.050 [−0.150, +0.050] |" in text
    page = write_comparison_page(tmp_path / "page.html", compared).read_text(encoding="utf-8")
    assert "<h2>Changes by training</h2>" in page


@pytest.mark.parametrize("before", [True, False])
def test_runs_without_values_before_training_have_no_changes(tmp_path: Path, before: bool) -> None:
    runs = [adapted(tmp_path / name, 0.0, 0.4, before=before) for name in "ab"]
    compared = compare_runs(runs)
    assert (collect_gains(compared.tables) is not None) == before
    page = write_comparison_page(tmp_path / "page.html", compared).read_text(encoding="utf-8")
    assert ("Changes by training" in page) == before
