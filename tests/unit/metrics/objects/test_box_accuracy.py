"""Box accuracy: the first box against the one that was meant."""

import math

import pytest

from palitune.metrics.objects.box_accuracy import BoxAccuracy
from palitune.records import Example, Instance, Prediction, Value

TRUTH = Instance("", (0, 0, 10, 10))


def example() -> Example:
    return Example(
        id="7-1",
        images=("/a.jpg",),
        size=(100, 100),
        prefix="the boat",
        suffixes=("",),
        reference=(TRUTH,),
        location="refs.json, ref_id 7",
    )


def boxes(*widths: float) -> Value:
    return tuple(Instance("", (0, 0, width, 10)) for width in widths)


def test_thresholds_are_inclusive_and_a_missing_box_counts_nothing() -> None:
    metric = BoxAccuracy()
    values = [boxes(10), boxes(7.5, 10), boxes(5, 10), boxes(4), None, ()]
    scores = [
        metric.update(example(), Prediction(id="7-1", text="", value=value))["box_iou"]
        for value in values
    ]
    assert scores == [1, 0.75, 0.5, 0.4, 0, 0]
    assert metric.compute() == {
        "box_accuracy@.5": 3 / 6,
        "box_accuracy@.75": 2 / 6,
        "box_iou": pytest.approx(2.65 / 6),
    }


def test_nothing_judged_is_not_a_number() -> None:
    assert all(math.isnan(number) for number in BoxAccuracy().compute().values())
