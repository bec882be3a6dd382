"""Semantic IoU of written masks against the same of label maps."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palitune.metrics.objects.semantic_iou import LabelMap, semantic_iou
from palitune.metrics.objects.semantic_segmentation import SemanticSegmentation
from palitune.records import Example, Instance, Prediction

CLASSES = ("sky", "sea", "boat")
WIDTH, HEIGHT = 5, 4
MAPS = st.lists(st.integers(0, 3), min_size=WIDTH * HEIGHT, max_size=WIDTH * HEIGHT).map(
    lambda cells: np.array(cells).reshape(HEIGHT, WIDTH)
)
"""0 is no class, as in ADE20K's files."""


def objects(labels: LabelMap) -> tuple[Instance, ...]:
    return tuple(
        Instance(name, (0, 0, WIDTH, HEIGHT), labels == number)
        for number, name in enumerate(CLASSES, 1)
        if (labels == number).any()
    )


def update(metric: SemanticSegmentation, reference: object, predicted: object) -> dict[str, float]:
    example = Example(
        id="1", images=("a.png",), size=(WIDTH, HEIGHT), prefix="segment", suffixes=("",),
        reference=reference, location="here",  # type: ignore[arg-type]
    )  # fmt: skip
    return metric.update(example, Prediction(id="1", text="", value=predicted))  # type: ignore[arg-type]


@given(st.lists(st.tuples(MAPS, MAPS), min_size=1, max_size=4))
def test_it_equals_the_iou_of_label_maps(pairs: list[tuple[LabelMap, LabelMap]]) -> None:
    metric = SemanticSegmentation()
    for truth, guess in pairs:
        update(metric, objects(truth), objects(guess))
    # A pixel for which nothing is predicted is a class of its own there, which no reference has.
    maps = [(np.where(guess == 0, 3, guess - 1), truth) for truth, guess in pairs]
    expected = semantic_iou(*zip(*maps, strict=True), num_classes=4, reduce_zero_label=True)
    found = metric.compute()
    ious = [iou for iou in expected.class_iou[:3] if not math.isnan(iou)]
    assert found["semantic_iou"] == pytest.approx(
        sum(ious) / len(ious) if ious else math.nan, nan_ok=True
    )
    assert found["pixel_accuracy"] == pytest.approx(expected.pixel_accuracy, nan_ok=True)
    assert found["semantic_accuracy"] == pytest.approx(expected.mean_accuracy, nan_ok=True)


def test_of_two_predicted_masks_the_surer_one_has_the_pixel() -> None:
    everywhere = np.ones((HEIGHT, WIDTH), bool)
    box = (0.0, 0.0, float(WIDTH), float(HEIGHT))
    sea, sky = Instance("sea", box, everywhere, 0.4), Instance("sky", box, everywhere, 0.6)
    for order in ((sea, sky), (sky, sea)):
        assert update(SemanticSegmentation(), (sky,), order) == {"semantic_iou": 1.0}
        assert update(SemanticSegmentation(), (sea,), order) == {"semantic_iou": 0.0}
    first = Instance("sea", box, everywhere), Instance("sky", box, everywhere)
    assert update(SemanticSegmentation(), (sea,), first) == {"semantic_iou": 1.0}


def test_pixels_of_a_crowd_count_nowhere_and_no_answer_finds_nothing() -> None:
    half = np.zeros((HEIGHT, WIDTH), bool)
    half[:2] = True
    box = (0.0, 0.0, float(WIDTH), float(HEIGHT))
    sky, crowd = Instance("sky", box, half), Instance("boat", box, ~half, crowd=True)
    metric = SemanticSegmentation()
    assert update(metric, (sky, crowd), (Instance("sky", box, half | True),)) == {
        "semantic_iou": 1.0
    }
    assert update(metric, (sky,), None) == {"semantic_iou": 0.0}
    assert metric.compute()["semantic_iou"] == pytest.approx(0.5)
    assert all(math.isnan(number) for number in SemanticSegmentation().compute().values())
