"""Range checks of settings, and suggestions for unknown names."""

import pickle
import re
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from annotated_types import Ge, Interval

from palitune.errors import (
    ConfigError,
    DataError,
    ModelError,
    TrainingError,
    check_ranges,
    did_you_mean,
    print_error,
)


@dataclass(kw_only=True)
class Settings:
    rank: Annotated[int, Ge(1)] = 8
    ratio: Annotated[float | None, Interval(gt=0, le=1)] = None
    name: str = "any"


@pytest.mark.parametrize("values", [{}, {"rank": 1}, {"ratio": 1.0}, {"ratio": 1e-9}])
def test_values_inside_their_ranges_are_accepted(values: dict[str, Any]) -> None:
    check_ranges(Settings(**values), "adapter")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rank": 0}, "adapter.rank must be at least 1, got 0."),
        ({"ratio": 0.0}, "adapter.ratio must be above 0 and at most 1, got 0.0."),
        ({"ratio": 1.5}, "adapter.ratio must be above 0 and at most 1, got 1.5."),
        ({"ratio": float("nan")}, "adapter.ratio must be above 0 and at most 1, got nan."),
    ],
)
def test_a_value_outside_its_range_is_an_error(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_ranges(Settings(**values), "adapter")


def test_a_similar_name_is_suggested_and_any_other_is_not() -> None:
    assert did_you_mean("lorra", ["lora", "full"]) == " (did you mean 'lora'?)"
    assert did_you_mean("boat", ["lora", "full"]) == ""


@pytest.mark.parametrize("kind", [ConfigError, DataError, ModelError, TrainingError])
def test_a_message_is_one_line_whatever_it_quotes(kind: type[Exception]) -> None:
    assert str(kind("a.json: got 'x\n  y\u2028z'. Fix it.")) == "a.json: got 'x y z'. Fix it."
    assert str(pickle.loads(pickle.dumps(kind("a\nb")))) == "a b"


def test_an_error_that_quotes_a_long_text_keeps_its_start_and_end() -> None:
    text = str(DataError("a.json:3: got " + "x" * 10_000 + ". Fix it."))
    assert text.startswith("a.json:3: got x")
    assert text.endswith("x. Fix it.")
    assert len(text) <= 1500


def test_a_long_message_is_printed_without_its_middle(capsys: pytest.CaptureFixture[str]) -> None:
    print_error("a.json:3: got " + "x" * 10_000 + "\n. Fix it.")
    printed = capsys.readouterr().err
    assert printed.startswith("palitune: a.json:3: got x")
    assert printed.endswith("x . Fix it.\n")
    assert printed.count("\n") == 1
    assert len(printed) < 520
