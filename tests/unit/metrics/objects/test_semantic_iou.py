import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palitune.metrics.objects.semantic_iou import IGNORE_LABEL, semantic_iou

Map = npt.NDArray[np.integer]


def label_map(*rows: list[int]) -> Map:
    return np.array(rows, np.uint8)


def test_pixels_of_all_images_count_together_and_ignored_ones_nowhere() -> None:
    references = [label_map([0, 0], [1, 1]), label_map([1, IGNORE_LABEL], [IGNORE_LABEL, 0])]
    predictions = [label_map([0, 1], [1, 1]), label_map([0, 0], [1, 0])]
    found = semantic_iou(predictions, references, num_classes=3)
    # class 0: found 2 of 3, said 3 times; class 1: found 2 of 3, said 3 times; class 2: nowhere
    assert found.class_iou[:2] == pytest.approx((2 / 4, 2 / 4))
    assert math.isnan(found.class_iou[2])
    assert found.mean_iou == pytest.approx(0.5)
    assert found.mean_accuracy == pytest.approx(2 / 3)
    assert found.pixel_accuracy == pytest.approx(4 / 6)


def test_a_class_that_is_only_predicted_counts_zero_and_has_no_accuracy() -> None:
    found = semantic_iou([label_map([0, 1])], [label_map([0, 0])], num_classes=2)
    assert found.class_iou == pytest.approx((0.5, 0))
    assert found.mean_iou == 0.25
    assert found.mean_accuracy == 0.5


def test_label_zero_is_ignored_where_files_count_classes_from_one() -> None:
    reference = label_map([0, 1, 2, 2, 255])
    found = semantic_iou([label_map([1, 0, 1, 0, 0])], [reference], 2, reduce_zero_label=True)
    assert found.class_iou == pytest.approx((1 / 2, 1 / 2))


def test_nothing_to_judge_is_nan() -> None:
    for pairs in ([], [label_map([IGNORE_LABEL])]):
        found = semantic_iou([np.zeros_like(m) for m in pairs], pairs, num_classes=2)
        assert math.isnan(found.mean_iou)
        assert math.isnan(found.pixel_accuracy)


def test_maps_that_do_not_fit_are_refused_in_a_sentence() -> None:
    with pytest.raises(ValueError, match="label map 0: the prediction is"):
        semantic_iou([label_map([0, 0])], [label_map([0])], num_classes=2)
    with pytest.raises(ValueError, match="the reference has a label outside 0 to 1"):
        semantic_iou([label_map([0])], [label_map([2])], num_classes=2)
    with pytest.raises(ValueError, match="the prediction has a label outside 0 to 1"):
        semantic_iou([label_map([2])], [label_map([0])], num_classes=2)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30))
def test_every_class_has_intersection_over_union(pixels: list[tuple[int, int]]) -> None:
    predicted, wanted = np.array(pixels, np.uint8).T[:, None]
    found = semantic_iou([predicted], [wanted], num_classes=4)
    for number, iou in enumerate(found.class_iou):
        a = {i for i, (p, _) in enumerate(pixels) if p == number}
        b = {i for i, (_, w) in enumerate(pixels) if w == number}
        assert iou == pytest.approx(len(a & b) / len(a | b) if a | b else math.nan, nan_ok=True)
