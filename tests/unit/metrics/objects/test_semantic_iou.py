"""Semantic IoU of predicted masks, compared with the definition on label maps."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palitune.metrics.objects.semantic_iou import SemanticSegmentation
from palitune.records import Example, Instance, Prediction

CLASSES = ("sky", "sea", "boat")
WIDTH, HEIGHT = 5, 4
BOX = (0.0, 0.0, float(WIDTH), float(HEIGHT))
LabelMap = npt.NDArray[np.integer]
"""(height, width), class numbers from 1; 0 is no class, as in ADE20K's files."""
MAPS = st.lists(st.integers(0, 3), min_size=WIDTH * HEIGHT, max_size=WIDTH * HEIGHT).map(
    lambda cells: np.array(cells).reshape(HEIGHT, WIDTH)
)


def objects(labels: LabelMap) -> tuple[Instance, ...]:
    return tuple(
        Instance(name, BOX, labels == number)
        for number, name in enumerate(CLASSES, 1)
        if (labels == number).any()
    )


def update(metric: SemanticSegmentation, reference: object, predicted: object) -> dict[str, float]:
    example = Example(
        id="1", images=("a.png",), size=(WIDTH, HEIGHT), prefix="segment", suffixes=("",),
        reference=reference, location="here",  # type: ignore[arg-type]
    )  # fmt: skip
    return metric.update(example, Prediction(id="1", text="", value=predicted))  # type: ignore[arg-type]


def compute(*pairs: tuple[LabelMap, LabelMap]) -> dict[str, float]:
    """Return the metrics of (reference, prediction) label maps."""
    metric = SemanticSegmentation()
    for truth, predicted in pairs:
        update(metric, objects(truth), objects(predicted))
    return metric.compute()


def label_map(*cells: int) -> LabelMap:
    """Return a label map that begins with `cells`; the other pixels have no class."""
    labels = np.zeros(WIDTH * HEIGHT, int)
    labels[: len(cells)] = cells
    return labels.reshape(HEIGHT, WIDTH)


def nan_mean(values: list[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan


@given(st.lists(st.tuples(MAPS, MAPS), min_size=1, max_size=4))
def test_the_values_are_those_of_the_definition(pairs: list[tuple[LabelMap, LabelMap]]) -> None:
    truth, predicted = (np.concatenate([pair[side].ravel() for pair in pairs]) for side in (0, 1))
    truth, predicted = truth[truth > 0], predicted[truth > 0]
    ious, accuracies = [], []
    for number in (1, 2, 3):
        a, b = truth == number, predicted == number
        ious.append((a & b).sum() / (a | b).sum() if (a | b).any() else math.nan)
        accuracies.append((a & b).sum() / a.sum() if a.any() else math.nan)
    expected = {
        "semantic_iou": nan_mean(ious),
        "semantic_accuracy": nan_mean(accuracies),
        "pixel_accuracy": (truth == predicted).mean() if truth.size else math.nan,
    }
    assert compute(*pairs) == pytest.approx(expected, nan_ok=True)


def test_pixels_of_all_images_are_counted_together_and_ignored_ones_are_not() -> None:
    references = [label_map(1, 1, 2, 2), label_map(2, 0, 0, 1)]
    predictions = [label_map(1, 2, 2, 2), label_map(1, 1, 2, 1)]
    # Class 1: 2 of 3 correct, predicted 3 times; class 2: 2 of 3 correct, predicted 3 times.
    assert compute(*zip(references, predictions, strict=True)) == {
        "semantic_iou": pytest.approx(0.5),
        "semantic_accuracy": pytest.approx(2 / 3),
        "pixel_accuracy": pytest.approx(4 / 6),
    }


def test_a_class_that_is_only_predicted_has_iou_zero_and_no_accuracy() -> None:
    values = compute((label_map(1, 1), label_map(1, 2)))
    assert values["semantic_iou"] == 0.25
    assert values["semantic_accuracy"] == 0.5


def test_without_reference_pixels_the_values_are_nan() -> None:
    for values in (compute(), compute((label_map(), label_map()))):
        assert all(math.isnan(value) for value in values.values())


def test_a_pixel_belongs_to_the_predicted_mask_with_the_higher_score() -> None:
    everywhere = np.ones((HEIGHT, WIDTH), bool)
    sea, sky = Instance("sea", BOX, everywhere, 0.4), Instance("sky", BOX, everywhere, 0.6)
    for order in ((sea, sky), (sky, sea)):
        assert update(SemanticSegmentation(), (sky,), order) == {"semantic_iou": 1.0}
        assert update(SemanticSegmentation(), (sea,), order) == {"semantic_iou": 0.0}
    first = Instance("sea", BOX, everywhere), Instance("sky", BOX, everywhere)
    assert update(SemanticSegmentation(), (sea,), first) == {"semantic_iou": 1.0}


def test_pixels_of_a_crowd_are_ignored_and_a_malformed_answer_scores_zero() -> None:
    half = np.zeros((HEIGHT, WIDTH), bool)
    half[:2] = True
    sky, crowd = Instance("sky", BOX, half), Instance("boat", BOX, ~half, crowd=True)
    metric = SemanticSegmentation()
    assert update(metric, (sky, crowd), (Instance("sky", BOX, half | True),)) == {
        "semantic_iou": 1.0
    }
    assert update(metric, (sky,), None) == {"semantic_iou": 0.0}
    assert metric.compute()["semantic_iou"] == pytest.approx(0.5)
