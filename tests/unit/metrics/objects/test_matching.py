"""Objects are found, invented or missed: by label and overlap, one to one."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palitune.metrics.objects.matching import MatchCounts, box_iou, count_matches
from palitune.records import Instance

BOX = st.tuples(*[st.integers(0, 20)] * 2, *[st.integers(21, 40)] * 2)


def boat(x0: float, y0: float, x1: float, y1: float, **more: Any) -> Instance:
    return Instance(more.pop("label", "boat"), (x0, y0, x1, y1), **more)


CROWD = boat(0, 0, 50, 50, crowd=True)


@pytest.mark.parametrize(
    ("predicted", "reference", "expected"),
    [
        ([], [], MatchCounts(0, 0, 0)),
        ([boat(0, 0, 10, 10)], [], MatchCounts(0, 1, 0)),
        ([], [boat(0, 0, 10, 10)], MatchCounts(0, 0, 1)),
        ([boat(0, 0, 10, 5)], [boat(0, 0, 10, 10)], MatchCounts(1, 0, 0)),  # IoU .5 exactly
        ([boat(0, 0, 10, 4.9)], [boat(0, 0, 10, 10)], MatchCounts(0, 1, 1)),
        ([boat(0, 0, 10, 10, label="buoy")], [boat(0, 0, 10, 10)], MatchCounts(0, 1, 1)),
        ([boat(0, 0, 10, 10)] * 2, [boat(0, 0, 10, 10)], MatchCounts(1, 1, 0)),  # said twice
        (  # the best IoU goes first: the first guess must not take what only the second overlaps
            [boat(0, 0, 10, 10), boat(0, 4, 10, 14)],
            [boat(0, 3, 10, 13), boat(0, 0, 10, 9)],
            MatchCounts(2, 0, 0),
        ),
        ([], [CROWD], MatchCounts(0, 0, 0)),
        ([boat(0, 0, 10, 10), boat(5, 5, 9, 9)], [CROWD], MatchCounts(0, 0, 0)),
        ([boat(45, 0, 55, 10)], [CROWD], MatchCounts(0, 0, 0)),  # half inside
        ([boat(46, 0, 56, 10)], [CROWD], MatchCounts(0, 1, 0)),
        ([boat(0, 0, 10, 10, label="buoy")], [CROWD], MatchCounts(0, 1, 0)),
        ([boat(0, 0, 10, 10)], [CROWD, boat(0, 0, 10, 10)], MatchCounts(1, 0, 0)),
    ],
)
def test_objects_are_paired_one_to_one_by_label_and_overlap(
    predicted: list[Instance], reference: list[Instance], expected: MatchCounts
) -> None:
    assert count_matches(predicted, reference) == expected


@given(st.lists(BOX, max_size=6), st.lists(BOX, max_size=6))
def test_every_object_is_found_or_missed_and_every_guess_right_or_invented(
    guesses: list[Any], truths: list[Any]
) -> None:
    matches = count_matches(
        [Instance("a", box) for box in guesses], [Instance("a", box) for box in truths]
    )
    assert matches.true_positives + matches.false_positives == len(guesses)
    assert matches.true_positives + matches.false_negatives == len(truths)


@pytest.mark.parametrize(
    ("a", "b", "iou"),
    [
        ((0, 0, 10, 10), (0, 0, 10, 10), 1),
        ((0, 0, 10, 10), (5, 0, 15, 10), 1 / 3),
        ((0, 0, 10, 10), (10, 0, 20, 10), 0),
        ((0, 0, 10, 10), (2, 2, 4, 4), 0.04),
        ((3, 3, 3, 3), (3, 3, 3, 3), 0),
    ],
)
def test_box_iou(a: Any, b: Any, iou: float) -> None:
    assert box_iou(a, b) == pytest.approx(iou)
    assert box_iou(b, a) == pytest.approx(iou)
