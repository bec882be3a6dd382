"""Upper bound of the mask codec: mean IoU of decoded masks by class and size."""

import numpy as np
import pytest

from palitune.codec import masks
from palitune.metrics.objects.codec_upper_bound import CodecUpperBound, UpperBound, UpperBounds
from palitune.metrics.objects.segmentation import mask_iou
from palitune.records import Instance

from support.toy_data import toy_mask

SIZE = (300, 200)
CODEC = masks.load_codec("embedded")


def ellipse(label: str, x0: int, y0: int, x1: int, y1: int, crowd: bool = False) -> Instance:
    box = (x0, y0, x1, y1)
    return Instance(label, box, mask=toy_mask(SIZE, box), crowd=crowd)


SCENE = [
    ellipse("boat", 10, 10, 40, 40),
    ellipse("boat", 50, 10, 130, 80),
    ellipse("a;b", 20, 60, 280, 190),  # a label that cannot be encoded
    ellipse("boat", 0, 0, 9, 9, crowd=True),
]


def round_trip_iou(instance: Instance) -> float:
    """Return the IoU of a mask with the mask decoded from its text."""
    text = masks.encode([Instance("x", instance.box, mask=instance.mask)], SIZE, CODEC)
    [decoded] = masks.decode(text, SIZE, CODEC).instances
    assert instance.mask is not None
    assert decoded.mask is not None
    return mask_iou(instance.mask, decoded.mask)


def upper_bounds(instances: list[Instance]) -> UpperBounds:
    upper_bound = CodecUpperBound(CODEC)
    upper_bound.update(instances, SIZE)
    return upper_bound.compute()


def test_the_upper_bound_is_the_mean_iou_of_round_trips() -> None:
    small, medium, large = (round_trip_iou(instance) for instance in SCENE[:3])
    expected = {
        ("boat", "small"): ([small], 1),
        ("boat", "medium"): ([medium], 1),
        ("boat", "all"): ([small, medium], 2),
        ("a;b", "large"): ([large], 1),
        ("a;b", "all"): ([large], 1),
        ("all", "small"): ([small], 1),
        ("all", "medium"): ([medium], 1),
        ("all", "large"): ([large], 1),
        ("all", "all"): ([small, medium, large], 3),
    }
    bounds = upper_bounds(SCENE)
    assert bounds.keys() == expected.keys()
    for key, (ious, count) in expected.items():
        assert bounds[key].iou == pytest.approx(np.mean(ious), abs=1e-3)
        assert bounds[key].num_objects == count
    assert bounds["all", "all"].iou > 0.8


def test_images_accumulate_and_an_empty_image_has_no_upper_bound() -> None:
    upper_bound = CodecUpperBound(CODEC)
    upper_bound.update([], SIZE)
    assert upper_bound.compute() == {}
    once = upper_bounds(SCENE)
    for _ in range(2):
        upper_bound.update(SCENE, SIZE)
    twice = upper_bound.compute()
    assert twice == {
        key: UpperBound(pytest.approx(value.iou), 2 * value.num_objects)
        for key, value in once.items()
    }


def test_an_object_without_a_mask_is_an_error() -> None:
    with pytest.raises(ValueError, match="has no mask"):
        upper_bounds([Instance("boat", (0, 0, 9, 9))])
