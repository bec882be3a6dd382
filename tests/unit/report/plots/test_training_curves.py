import math
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palitune.report.plots.training_curves import (
    Chart,
    Series,
    downsample,
    draw_chart,
    smooth,
    training_charts,
)

HISTORY = [
    {"step": 10.0, "epoch": 0.1, "loss": 2.0, "learning_rate": 1e-4},
    {"step": 10.0, "validation/ocr/exact_match": 0.1, "validation/boats/AP": 0.2},
    {"step": 20.0, "epoch": 0.2, "loss": math.nan, "learning_rate": 2e-4},
    {"step": 20.0, "validation/ocr/exact_match": 0.3, "validation/vqa/exact_match": 0.4},
    {"step": 20.0, "validation/boats/APs": 0.2, "validation/boats/f1@.5": 0.2},
    {"step": 30.0, "loss": 1.0, "validation/ocr/loss": 1.5},
]


def test_validation_metrics_have_a_chart_per_name_and_a_line_per_part() -> None:
    found = {chart.title: chart for chart in training_charts(HISTORY)}
    assert [series.name for series in found["exact_match"].series] == ["ocr", "vqa"]
    assert found["exact_match"].series[0].points == ((10.0, 0.1), (20.0, 0.3))


def test_loss_comes_first_and_coco_details_are_left_out() -> None:
    titles = [chart.title for chart in training_charts(HISTORY)]
    assert titles[:2] == ["loss", "learning_rate"]
    assert {"AP", "f1@.5", "exact_match"} <= set(titles)
    assert "APs" not in titles
    assert "epoch" not in titles


def test_validation_loss_is_in_the_chart_of_the_training_loss() -> None:
    loss = training_charts(HISTORY)[0]
    assert [series.name for series in loss.series] == ["training", "validation ocr"]


def test_slices_share_the_chart_of_the_loss_and_have_one_of_perplexities() -> None:
    history = [
        {"step": 0.0, "minitrain/loss": 2.1, "minitrain/ocr/perplexity": 8.2},
        {"step": 0.0, "minival/loss": 2.2, "minival/ocr/perplexity": 9.0},
        {"step": 10.0, "loss": 2.0},
    ]
    loss, perplexity = training_charts(history)
    assert [series.name for series in loss.series] == ["minitrain", "minival", "training"]
    assert perplexity.title == "perplexity"
    assert [series.name for series in perplexity.series] == ["minitrain ocr", "minival ocr"]


def test_values_that_are_not_finite_are_left_out() -> None:
    assert training_charts(HISTORY)[0].series[0].points == ((10.0, 2.0), (30.0, 1.0))
    assert training_charts([{"step": 1.0, "loss": math.inf}]) == []
    assert training_charts([]) == []


@given(
    st.lists(
        st.tuples(st.integers(0, 10**6), st.floats(-1e6, 1e6, allow_nan=False)),
        min_size=1,
        max_size=80,
        unique_by=lambda point: point[0],
    )
)
def test_every_drawing_is_well_formed_and_inside_its_frame(points: list[tuple[int, float]]) -> None:
    chart = Chart('<loss> & "more"', (Series("a<b", tuple(sorted(points))),))
    root = ET.fromstring(draw_chart(chart))
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    for path in root.iter("path"):
        if path.attrib["class"] != "grid":
            numbers = path.attrib["d"].replace("M", "").replace("L", " ").split()
            assert all(0 <= float(x) <= width for x in numbers[0::2])
            assert all(0 <= float(y) <= height for y in numbers[1::2])


@pytest.mark.parametrize("values", [(5e-324,), (0.0, 5e-324), (0.0, 0.0), (-1e-320, 1e-320)])
def test_indistinguishable_values_are_a_flat_line(values: tuple[float, ...]) -> None:
    chart = Chart("loss", (Series("a", tuple((float(x), y) for x, y in enumerate(values))),))
    assert ET.fromstring(draw_chart(chart)) is not None


def test_a_long_curve_is_averaged_in_buckets() -> None:
    points = [(float(step), float(step % 2)) for step in range(1200)]
    found = downsample(points)
    assert len(found) == 300
    assert all(value == 0.5 for _, value in found)
    assert downsample(points[:20]) == points[:20]


def test_smoothing_keeps_a_constant_and_does_not_shift_a_line() -> None:
    assert smooth([(1.0, 3.0), (2.0, 3.0), (3.0, 3.0)]) == [(1.0, 3.0), (2.0, 3.0), (3.0, 3.0)]
    line = [(float(step), float(step)) for step in range(100)]
    assert smooth(line)[50] == (50.0, 50.0)


def test_the_legend_gives_the_last_value() -> None:
    chart = Chart("exact_match", (Series("ocr", ((1.0, 0.1), (2.0, 0.3))),))
    assert chart.legend == [("ocr", "0.3")]
