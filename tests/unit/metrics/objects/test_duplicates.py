import pytest
from hypothesis import given
from hypothesis import strategies as st

from palitune.metrics.objects.duplicates import find_duplicates
from palitune.metrics.objects.matching import box_iou
from palitune.records import Instance

BOX = (0.0, 0.0, 10.0, 10.0)
NEAR = (0.0, 0.0, 10.0, 8.0)
"""An IoU of .8 with BOX."""


def test_the_surer_of_two_alike_is_kept_and_of_equals_the_first() -> None:
    low, high = Instance("boat", BOX, score=0.2), Instance("boat", NEAR, score=0.9)
    assert find_duplicates([low, high], 0.7) == [True, False]
    assert find_duplicates([high, low], 0.7) == [False, True]
    assert find_duplicates([Instance("boat", BOX)] * 3, 0.7) == [False, True, True]
    assert find_duplicates([], 0.7) == []


def test_another_label_or_a_smaller_overlap_is_no_duplicate() -> None:
    assert find_duplicates([Instance("boat", BOX), Instance("buoy", BOX)], 0.7) == [False, False]
    pair = [Instance("boat", BOX), Instance("boat", NEAR)]
    assert find_duplicates(pair, 0.81) == [False, False]
    assert find_duplicates(pair, 0.8) == [False, True]


def test_what_repeats_a_duplicate_alone_is_kept() -> None:
    shifted = [Instance("boat", (0.0, top, 10.0, top + 10), score=1 - top / 9) for top in (0, 2, 4)]
    assert find_duplicates(shifted, 0.6) == [False, True, False]


coordinates = st.tuples(*[st.integers(0, 12)] * 4)
boxes = coordinates.map(lambda c: (*map(float, c[:2]), float(c[0] + c[2]), float(c[1] + c[3])))


@given(
    st.lists(st.builds(Instance, st.sampled_from("ab"), boxes, score=st.floats(0, 1))),
    st.sampled_from([0.3, 0.5, 0.7]),
)
def test_no_two_that_are_kept_are_alike_and_every_other_is_like_one(
    instances: list[Instance], least: float
) -> None:
    repeated = find_duplicates(instances, least)
    kept = [i for i, again in zip(instances, repeated, strict=True) if not again]

    def alike(one: Instance, other: Instance) -> bool:
        return one.label == other.label and box_iou(one.box, other.box) >= least

    assert not any(alike(a, b) for n, a in enumerate(kept) for b in kept[:n])
    for instance, again in zip(instances, repeated, strict=True):
        if again:
            surer = [other for other in kept if (other.score or 0) >= (instance.score or 0)]
            assert any(alike(instance, other) for other in surer)


def test_a_box_without_extent_overlaps_nothing() -> None:
    flat = Instance("boat", (3.0, 3.0, 3.0, 3.0))
    assert find_duplicates([flat, flat], 0.5) == [False, False]
    assert box_iou(flat.box, flat.box) == pytest.approx(0)
