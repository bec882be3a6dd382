"""The codec's own IoU: the mean of what its masks keep, by class and size."""

import numpy as np
import pytest

from palitune.codec import masks
from palitune.metrics.objects.codec_upper_bound import (
    CodecUpperBound,
    UpperBound,
    codec_upper_bound,
)
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
    ellipse("a;b", 20, 60, 280, 190),  # a label that no text could hold
    ellipse("boat", 0, 0, 9, 9, crowd=True),
]


def kept(instance: Instance) -> float:
    """The IoU of a mask and what is read back of its text."""
    box_and_shape = masks.encode([Instance("x", instance.box, mask=instance.mask)], SIZE, CODEC)
    [read] = masks.decode(box_and_shape, SIZE, CODEC).instances
    assert instance.mask is not None
    assert read.mask is not None
    return mask_iou(instance.mask, read.mask)


def test_the_ceiling_is_the_mean_of_what_round_trips_keep() -> None:
    small, medium, large = (kept(instance) for instance in SCENE[:3])
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
    found = codec_upper_bound(SCENE, SIZE, CODEC)
    assert found.keys() == expected.keys()
    for key, (ious, count) in expected.items():
        assert found[key].iou == pytest.approx(np.mean(ious), abs=1e-3)
        assert found[key].num_objects == count
    assert found["all", "all"].iou > 0.8


def test_images_are_gathered_and_nothing_gives_nothing() -> None:
    gathered = CodecUpperBound(CODEC)
    gathered.update([], SIZE)
    assert gathered.compute() == {}
    once = codec_upper_bound(SCENE, SIZE, CODEC)
    for _ in range(2):
        gathered.update(SCENE, SIZE)
    twice = gathered.compute()
    assert twice == {
        key: UpperBound(pytest.approx(value.iou), 2 * value.num_objects)
        for key, value in once.items()
    }


def test_an_object_without_a_mask_is_refused() -> None:
    with pytest.raises(ValueError, match="has no mask"):
        codec_upper_bound([Instance("boat", (0, 0, 9, 9))], SIZE, CODEC)
