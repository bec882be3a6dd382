import io
import math
from typing import Any

import pytest
from rich.console import Console

from palitune.report.metrics_table import (
    detail_levels,
    format_number,
    metric_values,
    metrics_table,
    slice_values,
)

COMPARED: dict[str, Any] = {
    "split": "test",
    "examples": {"ocr": 300, "boats": 20},
    "before": {"ocr/exact_match": 0.25, "ocr/character_error_rate": 0.5, "boats/AP": None},
    "after": {
        "ocr/exact_match": 0.5,
        "ocr/character_error_rate": 0.125,
        "boats/AP": 0.1,
        "boats/APs": -1.0,
        "boats/AP50": 0.3,
        "boats/malformed": 0.04,
        "boats/f1@.5": 0.4,
    },
}


def printed(metrics: dict[str, Any]) -> str:
    file = io.StringIO()
    Console(file=file, width=120, color_system=None).print(metrics_table(metrics).to_rich())
    return file.getvalue()


def test_detection_is_headed_by_f1_then_ap50_then_ap() -> None:
    names = ["AP", "AP50", "AP75", "precision@.5", "f1@.5", "malformed"]
    assert detail_levels(names) == {
        "f1@.5": 0,
        "AP50": 1,
        "AP": 1,
        "malformed": 1,
        "AP75": 2,
        "precision@.5": 2,
    }


def test_masks_are_headed_by_f1_then_ap_then_iou() -> None:
    names = ["mask_AP", "mask_AP50", "mask_APs", "mask_f1@.5", "mask_iou", "malformed"]
    assert list(detail_levels(names).items()) == [
        ("mask_f1@.5", 0),
        ("mask_AP50", 1),
        ("mask_AP", 1),
        ("mask_iou", 1),
        ("malformed", 1),
        ("mask_APs", 2),
    ]
    names = ["mean_iou", "cumulative_iou", "precision@.5", "box_accuracy@.5"]
    assert list(detail_levels(names).values()) == [0, 1, 1, 2]


def test_other_tasks_are_headed_by_their_first_metric() -> None:
    assert list(detail_levels(["malformed", "exact_match", "anls_rrc"]).items()) == [
        ("exact_match", 0),
        ("anls_rrc", 1),
        ("malformed", 1),
    ]


def test_detail_levels_cover_exactly_the_given_names() -> None:
    for names in (["AP"], ["AP50"], ["malformed"], [], ["f1@.5", "x"], ["AP", "unfinished", "AR1"]):
        assert sorted(detail_levels(names)) == sorted(names)


def test_a_fallen_error_rate_is_an_improvement() -> None:
    by_name = {metric.name: metric for metric in metric_values(COMPARED)}
    assert by_name["character_error_rate"].improved is True
    assert by_name["character_error_rate"].cells == ["0.500", "0.125", "−0.375"]
    assert by_name["exact_match"].improved is True


def test_a_missing_value_is_a_dash_and_neither_better_nor_worse() -> None:
    by_name = {metric.name: metric for metric in metric_values(COMPARED)}
    assert by_name["AP"].cells == ["–", "0.100", "–"]
    assert by_name["AP"].improved is None
    assert by_name["f1@.5"].cells == ["–", "0.400", "–"]


def test_an_equal_value_is_neither_better_nor_worse() -> None:
    same = {"before": {"ocr/anls_rrc": 0.5}, "after": {"ocr/anls_rrc": 0.5}}
    assert [metric.improved for metric in metric_values(same)] == [None]
    assert [metric.cells[2] for metric in metric_values(same)] == ["±0"]


SURE: dict[str, Any] = {
    "before": {"ocr/anls_rrc": 0.5, "ocr/exact_match": 0.5, "ocr/malformed": 0.02},
    "after": {"ocr/anls_rrc": 0.61, "ocr/exact_match": 0.52, "ocr/malformed": 0.01},
    "intervals": {
        "before": {"ocr/anls_rrc": [0.44, 0.56]},
        "after": {"ocr/anls_rrc": [0.55, 0.67], "ocr/exact_match": [None, None]},
        "difference": {
            "ocr/anls_rrc": [0.05, 0.17],
            "ocr/exact_match": [-0.01, 0.05],
            "ocr/malformed": [-0.014, -0.006],
        },
    },
}


def test_a_change_whose_interval_holds_zero_is_neither_better_nor_worse() -> None:
    by_name = {metric.name: metric.improved for metric in metric_values(SURE)}
    assert by_name == {"anls_rrc": True, "exact_match": None, "malformed": True}


def test_intervals_are_shown_as_half_their_width_and_in_tooltips() -> None:
    by_name = {metric.name: metric for metric in metric_values(SURE)}
    assert by_name["anls_rrc"].margins == ["", "±.060", "±.060"]
    assert by_name["anls_rrc"].tooltips[1] == "95 % confidence interval: 0.550 to 0.670"
    assert by_name["exact_match"].margins == ["", "", "±.030"]
    assert by_name["malformed"].margins == ["", "", "±0.4"]
    assert "+0.110 ±.060" in printed(SURE)
    assert "± half the 95 % bootstrap confidence interval" in printed(SURE)
    assert "| ocr | anls_rrc | 0.500 | 0.610 | +0.110 ±.060 |" in metrics_table(SURE).to_markdown()
    assert "±" not in printed(COMPARED).replace("±0", "")


def test_one_value_has_the_margin_of_its_own_interval() -> None:
    alone = SURE | {"before": None, "intervals": {"after": SURE["intervals"]["after"]}}
    by_name = {metric.name: metric for metric in metric_values(alone)}
    assert by_name["anls_rrc"].margins == ["±.060"]
    assert by_name["malformed"].margins == [""]
    assert "0.610 ±.060" in printed(alone)


def test_slices_have_the_headline_metric() -> None:
    kinds = {"kind": {"count": {"examples": 3, "anls_rrc": 0.25}}}
    sliced = SURE | {"slices": {"before": {}, "after": {"ocr": kinds}}}
    ((value, count, metric),) = slice_values(sliced, metric_values(sliced))["ocr"]["kind"]
    assert (value, count, metric.cells) == ("count", 3, ["–", "0.250", "–"])
    assert slice_values(SURE, metric_values(SURE)) == {}


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("anls_rrc", 0.12345, "0.123"),
        ("malformed", 0.045, "4.5 %"),
        ("anls_rrc", math.nan, "–"),
        ("AP", -1.0, "−1.000"),
    ],
)
def test_metric_values_are_formatted(name: str, value: float, text: str) -> None:
    assert format_number(name, value) == text


def test_the_table_has_the_main_metrics_and_no_coco_details() -> None:
    text = printed(COMPARED)
    for shown in ("ocr (n = 300)", "0.250", "0.500", "+0.250", "boats (n = 20)", "f1@.5", "4.0 %"):
        assert shown in text
    assert "APs" not in text


def test_without_a_before_there_is_one_value() -> None:
    text = printed({"split": "test", "before": None, "after": {"ocr/exact_match": 0.5}})
    assert "value" in text
    assert "change" not in text
    assert "0.500" in text


def test_part_names_are_not_parsed_as_markup() -> None:
    after = {"[red]x[/]/anls_rrc": 0.5, "loss": 1.0}
    assert "[red]x[/]" not in printed({"before": None, "after": {"a/b": 1.0}})
    assert "[red]x[" in printed({"before": None, "after": after})


def test_markdown_rows_have_as_many_cells_as_the_heading() -> None:
    after = {"a|b/exact_match": 0.5}
    for metrics in (COMPARED, {"before": None, "after": after}):
        lines = metrics_table(metrics).to_markdown().splitlines()
        assert len({line.replace("\\|", "").count("|") for line in lines}) == 1
    assert (
        "| ocr (n = 300) | exact_match | 0.250 | 0.500 | +0.250 |"
        in metrics_table(COMPARED).to_markdown()
    )
