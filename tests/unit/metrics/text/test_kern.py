"""Units in which the errors of kern notation are counted."""

import pytest

from palitune.metrics import METRICS
from palitune.metrics.text.kern import split_characters, split_lines, split_symbols
from palitune.records import Example, Prediction

MUSIC = "**kern\t**kern\n4c 4e\t4g"


def test_symbols_stand_between_spaces_and_tabs_and_breaks_are_symbols() -> None:
    assert split_symbols(MUSIC) == ["**kern", "<t>", "**kern", "<b>", "4c", "4e", "<t>", "4g"]


def test_characters_are_symbols_but_for_tabs_and_breaks_as_the_authors_count() -> None:
    assert split_characters("4c 4e\t4g") == ["4c", "4e", "<", "t", ">", "4g"]


def test_lines_are_lines() -> None:
    assert split_lines(MUSIC) == ["**kern\t**kern", "4c 4e\t4g"]


@pytest.mark.parametrize(
    ("unit", "rate"), [("character", 1 / 14), ("symbol", 1 / 8), ("line", 1 / 2)]
)
def test_a_wrong_note_is_one_edit_of_each_kind(unit: str, rate: float) -> None:
    metric = METRICS[f"kern_{unit}_error_rate"]()
    example = Example(
        id="1", images=("a.png",), size=(9, 9), prefix="ocr", suffixes=(MUSIC,), location="a:1",
        reference=(MUSIC,),
    )  # fmt: skip
    written = MUSIC.replace("4e", "4f")
    scores = metric.update(example, Prediction(id="1", text=written, value=written))
    assert scores == metric.compute() == {f"kern_{unit}_error_rate": pytest.approx(rate)}
