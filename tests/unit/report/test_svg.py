import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palitune.report.svg import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Frame,
    drawing,
    short,
    text,
    ticks,
)


def test_a_frame_maps_its_corners_to_those_of_the_drawing() -> None:
    frame = Frame((0, 10), (-1, 1))
    assert (frame.x(0), frame.x(10)) == (LEFT, WIDTH - RIGHT)
    assert (frame.y(-1), frame.y(1)) == (HEIGHT - BOTTOM, TOP)
    assert frame.path([(0, -1), (10, 1)]) == f"M{LEFT}.0 {HEIGHT - BOTTOM}.0L370.0 {TOP}.0"


def test_a_single_step_stands_in_the_middle() -> None:
    assert Frame((5, 5), (0, 1)).x(5) == pytest.approx((LEFT + WIDTH - RIGHT) / 2)


def test_every_tick_is_written() -> None:
    root = ET.fromstring(drawing("x", Frame((0, 1), (0, 1)).axes([0, 0.5, 1], [0, 1])))
    assert [entry.text for entry in root.iter("text")] == ["0", "1", "0", "0.5", "1"]


def test_what_is_written_stays_text() -> None:
    root = ET.fromstring(drawing('a "b" <i>', text(1, 2, "<b>&")))
    assert root.attrib["aria-label"] == 'a "b" <i>'
    assert [entry.text for entry in root.iter("text")] == ["<b>&"]


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9), st.integers(2, 8))
def test_ticks_are_few_and_cover_the_range(low: float, length: float, about: int) -> None:
    high = low + length
    found = ticks(low, high, about)
    assert found == sorted(found)
    assert len(found) <= about + 3
    slack = 1e-6 * max(abs(low), abs(high), length)
    assert found[0] <= low + slack
    assert found[-1] >= high - slack


def test_ticks_inside_a_range_do_not_leave_it() -> None:
    assert ticks(10, 1000, 5, inside=True) == [200, 400, 600, 800, 1000]
    assert ticks(7, 7, 5, inside=True) == [7]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.25, "0.25"), (2e-4, "2e-4"), (1.5e-5, "1.5e-5"), (12000, "12k"), (2e6, "2M")],
)
def test_ticks_are_written_short(value: float, text: str) -> None:
    assert short(value) == text
