"""A density map draws a cell for each count, the most frequent ones opaque."""

import re

from palitune.report.plots.density_map import draw_density_map


def test_a_cell_is_as_dark_as_its_count() -> None:
    drawing = draw_density_map("Centers", [[0, 4], [1, 0]], "x", "y <")
    cells = re.findall(r'x="(\d+)" y="(\d+)"[^>]*fill-opacity="([\d.]+)"><title>(\d+)', drawing.svg)
    assert cells == [("34", "0", "1.00", "4"), ("26", "8", "0.25", "1")]
    assert "y &lt;" in drawing.svg


def test_a_map_without_counts_is_an_empty_frame() -> None:
    assert "<title>" not in draw_density_map("Centers", [[0]], "x", "y").svg
