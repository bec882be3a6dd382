"""A reward of boxes grows with every pixel, and falls with every object missed or invented."""

import pytest

from palitune.metrics.objects.mean_iou import mean_iou
from palitune.records import Example, Instance, Prediction

LEFT, RIGHT = Instance("boat", (0, 0, 40, 40)), Instance("buoy", (60, 0, 100, 40))
CROWD = Instance("boat", (0, 50, 100, 100), crowd=True)


def example(*reference: Instance) -> Example:
    return Example(
        id="1",
        images=(),
        size=(100, 100),
        prefix="",
        suffixes=("",),
        reference=reference,
        location="",
    )


def judged(predicted: tuple[Instance, ...] | None, *reference: Instance) -> float:
    return mean_iou(Prediction(id="1", text="", value=predicted), example(*reference))


def shifted(by: float) -> Instance:
    return Instance("boat", (by, 0, 40 + by, 40))


def test_it_is_one_only_where_all_is_found_and_nothing_invented() -> None:
    assert judged((RIGHT, LEFT), LEFT, RIGHT) == 1
    assert judged((LEFT,), LEFT, RIGHT) == 0.5
    assert judged((LEFT, RIGHT), LEFT) == 0.5
    assert judged((LEFT, LEFT), LEFT) == 0.5
    assert judged((Instance("buoy", LEFT.box),), LEFT) == 0


def test_every_pixel_nearer_is_worth_more_below_the_threshold_too() -> None:
    worth = [judged((shifted(by),), LEFT) for by in (39, 30, 20, 10, 0)]
    assert worth == sorted(set(worth))
    assert judged((shifted(20),), LEFT) == pytest.approx(1 / 3)


def test_nothing_to_find_is_found_by_saying_nothing_but_not_by_garbling() -> None:
    assert judged(()) == 1
    assert judged((LEFT,)) == 0
    assert judged(None) == 0
    assert judged((Instance("boat", (10, 60, 30, 90)),), CROWD) == 1
