"""Error types equal the library tidecv; `scripts/check_tide` compares thousands of cases."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from palitune.metrics.objects.detection import CocoExample
from palitune.metrics.objects.quality.error_types import ERROR_TYPES, ErrorCosts, error_costs

RECORDED = json.loads((Path(__file__).parent / "tide_cases.json").read_text(encoding="utf-8"))


def thing(label: str, x: float, score: float = 0.9, crowd: int = 0) -> dict[str, Any]:
    return {"label": label, "bbox": [x, 0, 10, 10], "score": score, "iscrowd": crowd}


def costs(reference: list[dict[str, Any]], predicted: list[dict[str, Any]]) -> ErrorCosts:
    result = error_costs([CocoExample("1", (100, 100), reference, predicted)])
    assert result is not None
    return result


@pytest.mark.parametrize("index", range(len(RECORDED["cases"])))
def test_counts_and_costs_equal_the_library(index: int) -> None:
    case = RECORDED["cases"][index]
    result = error_costs([CocoExample(**image) for image in case["images"]], case["kind"])
    assert result is not None
    actual, expected = result.to_json(), case["expected"]
    for name in ("ap", "false_positives", "false_negatives"):
        assert expected[name] is None or actual[name] == pytest.approx(expected[name], abs=1e-12)
    for name, numbers in expected["types"].items():
        assert actual["types"][name]["count"] == numbers["count"]
        if numbers["cost"] is not None:
            assert actual["types"][name]["cost"] == pytest.approx(numbers["cost"], abs=1e-12)


@pytest.mark.parametrize(
    ("name", "predicted"),
    [
        ("classification", [thing("buoy", 0)]),
        ("localization", [thing("boat", 5)]),
        ("both", [thing("buoy", 6)]),
        ("duplicate", [thing("boat", 0), thing("boat", 1, score=0.5)]),
        ("background", [thing("boat", 0), thing("boat", 50, score=0.5)]),
        ("missed", []),
    ],
)
def test_an_error_has_the_type_of_its_definition(
    name: str, predicted: list[dict[str, Any]]
) -> None:
    counts = costs([thing("boat", 0)], predicted).counts
    assert counts[name] == 1
    assert sum(counts.values()) == (2 if name == "both" else 1)  # the object is missed, too


def test_a_correct_answer_has_no_errors_and_no_costs() -> None:
    result = costs([thing("boat", 0), thing("buoy", 30)], [thing("boat", 0), thing("buoy", 30)])
    assert result.ap == 1
    assert set(result.counts.values()) == {0}
    assert set(result.costs.values()) == {0}
    assert result.false_positives == result.false_negatives == 0


def test_a_prediction_inside_a_crowd_costs_nothing() -> None:
    crowd = {**thing("boat", 40, crowd=1), "bbox": [40, 0, 40, 40]}
    result = costs([thing("boat", 0), crowd], [thing("boat", 0), thing("boat", 50, score=0.95)])
    assert result.ap == 1
    assert result.costs["background"] == 0


def test_the_order_of_the_examples_does_not_matter() -> None:
    examples = [CocoExample(**image) for case in RECORDED["cases"][:8] for image in case["images"]]
    examples = [
        CocoExample(str(number), e.size, e.reference, e.predicted)
        for number, e in enumerate(examples)
    ]
    shuffled = random.Random(0).sample(examples, len(examples))
    assert error_costs(shuffled) == error_costs(examples)


def test_without_objects_there_are_no_costs() -> None:
    assert error_costs([CocoExample("1", (10, 10), [], [])]) is None


def test_a_class_that_only_occurs_in_predictions_has_an_ap_of_zero() -> None:
    result = costs([thing("boat", 0)], [thing("boat", 0), thing("kite", 50)])
    assert result.ap == 0.5
    assert list(result.counts) == list(ERROR_TYPES)
    assert result.costs["background"] == 0.5
