import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palitune.report.plots.svg import (
    HEIGHT,
    MARGIN_BOTTOM,
    MARGIN_LEFT,
    MARGIN_RIGHT,
    MARGIN_TOP,
    WIDTH,
    PlotArea,
    axis_ticks,
    format_tick,
    svg_element,
    svg_text,
)


def test_the_corners_of_the_plot_area_are_mapped_to_the_drawing() -> None:
    area = PlotArea((0, 10), (-1, 1))
    assert (area.x(0), area.x(10)) == (MARGIN_LEFT, WIDTH - MARGIN_RIGHT)
    assert (area.y(-1), area.y(1)) == (HEIGHT - MARGIN_BOTTOM, MARGIN_TOP)
    assert (
        area.to_path([(0, -1), (10, 1)])
        == f"M{MARGIN_LEFT}.0 {HEIGHT - MARGIN_BOTTOM}.0L370.0 {MARGIN_TOP}.0"
    )


def test_a_single_step_is_in_the_middle() -> None:
    assert PlotArea((5, 5), (0, 1)).x(5) == pytest.approx((MARGIN_LEFT + WIDTH - MARGIN_RIGHT) / 2)


def test_every_tick_is_written() -> None:
    root = ET.fromstring(svg_element("x", PlotArea((0, 1), (0, 1)).draw_axes([0, 0.5, 1], [0, 1])))
    assert [entry.text for entry in root.iter("text")] == ["0", "1", "0", "0.5", "1"]


def test_texts_are_escaped() -> None:
    root = ET.fromstring(svg_element('a "b" <i>', svg_text(1, 2, "<b>&")))
    assert root.attrib["aria-label"] == 'a "b" <i>'
    assert [entry.text for entry in root.iter("text")] == ["<b>&"]


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9), st.integers(2, 8))
def test_ticks_are_few_and_cover_the_range(low: float, length: float, num_ticks: int) -> None:
    high = low + length
    ticks = axis_ticks(low, high, num_ticks)
    assert ticks == sorted(ticks)
    assert len(ticks) <= num_ticks + 3
    slack = 1e-6 * max(abs(low), abs(high), length)
    assert ticks[0] <= low + slack
    assert ticks[-1] >= high - slack


def test_inner_ticks_are_inside_the_range() -> None:
    assert axis_ticks(10, 1000, 5, inside=True) == [200, 400, 600, 800, 1000]
    assert axis_ticks(7, 7, 5, inside=True) == [7]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.25, "0.25"), (2e-4, "2e-4"), (1.5e-5, "1.5e-5"), (12000, "12k"), (2e6, "2M")],
)
def test_ticks_are_formatted_in_few_characters(value: float, text: str) -> None:
    assert format_tick(value) == text
