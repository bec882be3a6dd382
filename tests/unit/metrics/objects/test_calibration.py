import math
import random

import numpy as np
import pytest

from palitune.metrics.objects.calibration import (
    calibration_error,
    precision_recall_curve,
    reliability_diagram,
    scored_detections,
)
from palitune.metrics.objects.coco_matching import CocoMatches
from palitune.metrics.objects.detection import DetectionAP, to_coco
from palitune.records import Example, Instance, Prediction

BOX, FAR = (0.0, 0.0, 10.0, 10.0), (50.0, 50.0, 60.0, 60.0)


def judged(*images: tuple[list[Instance], list[Instance]]) -> DetectionAP:
    """Judge (predicted, reference) of each image."""
    metric = DetectionAP()
    for number, (predicted, reference) in enumerate(images):
        example = Example(
            id=str(number),
            images=(),
            size=(100, 100),
            prefix="",
            suffixes=(),
            reference=tuple(reference),
            location="",
        )
        metric.update(example, Prediction(id=str(number), text="", value=tuple(predicted)))
    return metric


def curve(metric: DetectionAP) -> list[float]:
    return precision_recall_curve(CocoMatches(*to_coco(metric.examples)))[1].tolist()  # type: ignore


def test_precision_is_that_of_the_best_recall_from_there_on() -> None:
    # By falling score: right, wrong, right. Two objects: precision 1 up to recall .5, then 2/3.
    metric = judged(
        ([Instance("a", BOX, score=0.9), Instance("a", FAR, score=0.8)], [Instance("a", BOX)]),
        ([Instance("a", BOX, score=0.7)], [Instance("a", BOX)]),
    )
    assert curve(metric) == [1.0] * 51 + [pytest.approx(2 / 3)] * 50


def test_precision_is_zero_at_a_recall_that_is_never_reached() -> None:
    metric = judged(([Instance("a", BOX, score=0.9)], [Instance("a", BOX), Instance("a", FAR)]))
    assert curve(metric) == [1.0] * 51 + [0.0] * 50
    assert curve(judged(([], [Instance("a", BOX)]))) == [0.0] * 101


def test_without_objects_there_is_no_curve() -> None:
    assert all(math.isnan(value) for value in curve(judged(([], []))))


@pytest.mark.parametrize("seed", range(8))
def test_the_mean_of_the_curve_is_the_ap_of_coco_at_iou_one_half(seed: int) -> None:
    rng = random.Random(seed)

    def instances(*, scored: bool) -> list[Instance]:
        found = []
        for _ in range(rng.randrange(6)):
            x, y = rng.randrange(8) * 8, rng.randrange(8) * 8
            box = (x, y, x + rng.choice((8, 12, 40)), y + rng.choice((8, 12, 40)))
            score = round(rng.random(), 1) if scored else None
            crowd = not scored and rng.random() < 0.15
            found.append(Instance(rng.choice("abc"), box, score=score, crowd=crowd))
        return found

    metric = judged(*((instances(scored=True), instances(scored=False)) for _ in range(40)))
    assert np.mean(curve(metric)) == pytest.approx(metric.compute()["AP50"], abs=1e-12)


def test_a_score_is_right_where_its_object_was_found() -> None:
    reference = [Instance("a", BOX), Instance("b", FAR, crowd=True)]
    predicted = [
        Instance("a", BOX, score=0.9),
        Instance("a", BOX, score=0.4),  # there is one object only
        Instance("b", BOX, score=0.3),  # another label
        Instance("b", (51, 51, 59, 59), score=0.2),  # inside a crowd: neither right nor wrong
        Instance("a", FAR),  # without a score
    ]
    assert scored_detections(predicted, reference) == [(0.9, True), (0.4, False), (0.3, False)]


def test_scores_are_sorted_into_bins_with_their_precision() -> None:
    bins = reliability_diagram(
        [(0.0, False), (0.25, True), (0.3, False), (1.0, True), (0.5, True)], bins=4
    )
    assert [(one.low, one.high, one.count) for one in bins] == [
        (0.0, 0.25, 1),
        (0.25, 0.5, 2),
        (0.5, 0.75, 1),
        (0.75, 1.0, 1),
    ]
    assert [one.precision for one in bins] == [0.0, 0.5, 1.0, 1.0]
    assert [one.score for one in bins] == [0.0, 0.275, 0.5, 1.0]
    # (1 * 0 + 2 * .225 + 1 * .5 + 1 * 0) / 5
    assert calibration_error(bins) == pytest.approx(0.19)


def test_a_score_outside_counts_at_that_end() -> None:
    assert [one.count for one in reliability_diagram([(-3.0, True), (1.5, True)], bins=2)] == [1, 1]


def test_an_empty_bin_has_no_precision_and_nothing_no_calibration() -> None:
    bins = reliability_diagram([])
    assert len(bins) == 10
    assert all(math.isnan(one.precision) and one.count == 0 for one in bins)
    assert math.isnan(calibration_error(bins))


def test_all_bins_together_give_the_precision_that_is_reported() -> None:
    reference = [Instance("a", BOX), Instance("a", FAR)]
    predicted = [Instance("a", BOX, score=0.9), Instance("b", FAR, score=0.1)]
    bins = reliability_diagram(scored_detections(predicted, reference))
    right = sum(one.count * one.precision for one in bins if one.count)
    metric = judged((predicted, reference))
    assert right / sum(one.count for one in bins) == metric.compute()["precision@.5"] == 0.5
