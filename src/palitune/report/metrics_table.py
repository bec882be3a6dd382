"""The numbers of a run, before and after: as data, as a terminal table, as Markdown."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from palitune.metrics import higher_is_better

if TYPE_CHECKING:
    from rich.table import Table

# What a result of boxes or masks is quoted by; its other numbers are detail.
_MAIN_OBJECT_METRICS = (
    *("f1@.5", "AP50", "AP"),
    *("mask_f1@.5", "mask_AP50", "mask_AP", "mask_iou"),
    *("mean_iou", "cumulative_iou", "box_accuracy@.5"),
)
_OBJECT_TASK_METRICS = {"AP", "mask_AP", "cumulative_iou"}
_OUTPUT_VALIDITY_METRICS = ("malformed", "unfinished")
# Shares of what is written, in percent like them, but detail.
_PERCENT_METRICS = (*_OUTPUT_VALIDITY_METRICS, "malformed_fragments", "duplicates", "unknown_label")
# Half of the last digit shown: a smaller change reads as none.
_MIN_CHANGE = 5e-4

EMPTY_CELL = "–"

Interval = tuple[float, float]
Intervals = tuple[Interval | None, Interval | None, Interval | None]


@dataclass(frozen=True, kw_only=True)
class MetricValue:
    """One number of one part, before and after adaptation; NaN where it is not defined."""

    part: str
    """Empty where the number belongs to no part."""
    name: str
    before: float | None
    """None where nothing was measured before."""
    after: float
    detail_level: int
    """0 for the number that the part is quoted by, 1 for those beside it, 2 for detail."""
    intervals: Intervals = (None, None, None)
    """95 % intervals of before, after and change; None where there is none."""

    @property
    def change(self) -> float:
        return math.nan if self.before is None else self.after - self.before

    @property
    def improved(self) -> bool | None:
        """Whether the change is one for the better; None where none is, or its interval holds 0."""
        if math.isnan(self.change) or abs(self.change) < _MIN_CHANGE:
            return None
        if (interval := self.intervals[2]) and interval[0] <= 0 <= interval[1]:
            return None
        return (self.change > 0) == higher_is_better(self.name)

    @property
    def cells(self) -> list[str]:
        """The values as text: before, after, change; the value alone where there is no before."""
        after = format_number(self.name, self.after)
        if self.before is None:
            return [after]
        return [
            format_number(self.name, self.before),
            after,
            format_number(self.name, self.change, "+"),
        ]

    @property
    def margins(self) -> list[str]:
        """Half the width of each cell's interval, `±.021`; empty for before, and where zero."""
        shown = zip(self.cells, self._cell_intervals, strict=True)
        margins = [_format_margin(self.name, cell, interval) for cell, interval in shown]
        return margins if self.before is None else ["", *margins[1:]]

    @property
    def tooltips(self) -> list[str]:
        """Each cell's interval in words; empty where there is none."""
        return [
            f"95 % interval: {' to '.join(format_number(self.name, end) for end in interval)}"
            if interval
            else ""
            for interval in self._cell_intervals
        ]

    @property
    def _cell_intervals(self) -> Sequence[Interval | None]:
        return self.intervals[1:2] if self.before is None else self.intervals


def metric_values(metrics: Mapping[str, Any]) -> list[MetricValue]:
    """List the numbers of a `metrics.json`, part by part, the most important ones first."""
    by_part: dict[str, list[str]] = {}
    for key in metrics["after"]:
        part, slash, name = key.partition("/")
        by_part.setdefault(part if slash else "", []).append(name if slash else key)
    before = metrics.get("before")
    intervals = metrics.get("intervals") or {}
    found: list[MetricValue] = []
    for part, names in by_part.items():
        for name, rank in detail_levels(names).items():
            key = f"{part}/{name}" if part else name
            found.append(
                MetricValue(
                    part=part,
                    name=name,
                    before=None if before is None else _to_float(before.get(key)),
                    after=_to_float(metrics["after"][key]),
                    detail_level=rank,
                    intervals=(
                        _read_interval(intervals.get("before"), key),
                        _read_interval(intervals.get("after"), key),
                        _read_interval(intervals.get("difference"), key),
                    ),
                )
            )
    return found


def slice_values(
    metrics: Mapping[str, Any], metric_values: Sequence[MetricValue]
) -> dict[str, dict[str, list[tuple[str, int, MetricValue]]]]:
    """List what each part is quoted by for every value of every attribute, with its examples."""
    after = (metrics.get("slices") or {}).get("after") or {}
    before = (metrics.get("slices") or {}).get("before") or {}
    listed: dict[str, dict[str, list[tuple[str, int, MetricValue]]]] = {}
    for quoted in (number for number in metric_values if number.detail_level == 0):
        for attribute, by_value in after.get(quoted.part, {}).items():
            rows = listed.setdefault(quoted.part, {}).setdefault(attribute, [])
            earlier = before.get(quoted.part, {}).get(attribute, {})
            for value, numbers_of in by_value.items():
                number = replace(
                    quoted,
                    before=None
                    if quoted.before is None
                    else _to_float(earlier.get(value, {}).get(quoted.name)),
                    after=_to_float(numbers_of.get(quoted.name)),
                    intervals=(None, None, None),
                )
                rows.append((value, numbers_of["examples"], number))
    return listed


def detail_levels(names: list[str]) -> dict[str, int]:
    """Order the names of one part by importance, with their rank (see `Number.rank`)."""
    shares = [name for name in names if name in _OUTPUT_VALIDITY_METRICS]
    others = [name for name in names if name not in _OUTPUT_VALIDITY_METRICS]
    if _OBJECT_TASK_METRICS & set(others):
        quoted = [name for name in _MAIN_OBJECT_METRICS if name in others]
        detail = [name for name in others if name not in quoted]
    else:
        quoted, detail = others, []
    main = dict.fromkeys(quoted[:1], 0)
    return main | dict.fromkeys(quoted[1:] + shares, 1) | dict.fromkeys(detail, 2)


def format_number(name: str, value: float, sign: str = "") -> str:
    """Write a number as reports do: three digits, shares in percent, a dash where undefined."""
    if math.isnan(value):
        return EMPTY_CELL
    if sign and abs(value) < _MIN_CHANGE:
        return "±0"
    text = f"{value * 100:{sign}.1f} %" if name in _PERCENT_METRICS else f"{value:{sign}.3f}"
    return text.replace("-", "−")


def part_title(part: str, metrics: Mapping[str, Any]) -> str:
    """Name a part with its number of examples, `ocr (n = 300)`."""
    count = metrics.get("examples", {}).get(part)
    return part if count is None else f"{part} (n = {count})".strip()


def metrics_table(metrics: Mapping[str, Any]) -> "Table":
    """Build the terminal's table of a `metrics.json`: what matters, not every COCO number."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=f"split {metrics['split']}" if "split" in metrics else None)
    for place, heading in enumerate(_column_headings(metrics)):
        table.add_column(heading, justify="left" if place < 2 else "right", no_wrap=place >= 2)
    last = None
    for number in _main_metric_values(metrics):
        starts = number.part != last
        if starts and last is not None:
            table.add_section()
        last = number.part
        part = Text(part_title(number.part, metrics) if starts else "")
        name = Text(number.name, style="bold" if number.detail_level == 0 else "")
        *values, final = number.cells
        colour = {True: "green", False: "red", None: ""}[number.improved]
        margin = (f" {number.margins[-1]}".rstrip(), "dim")
        table.add_row(part, name, *values, Text.assemble((final, colour), margin))
    if any(number.margins[-1] for number in _main_metric_values(metrics)):
        table.caption = "± half the 95 % interval, images drawn anew"
    return table


def metrics_markdown(metrics: Mapping[str, Any]) -> str:
    """Write the same numbers as a Markdown table, for a README or a model card."""
    headings = _column_headings(metrics)
    rows = [headings, ["---", "---", *["---:"] * (len(headings) - 2)]]
    for number in _main_metric_values(metrics):
        named = [part_title(number.part, metrics), number.name]
        *values, final = number.cells
        cells = [*values, f"{final} {number.margins[-1]}".rstrip()]
        rows.append([cell.replace("|", "\\|") for cell in named] + cells)
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _main_metric_values(metrics: Mapping[str, Any]) -> list[MetricValue]:
    return [number for number in metric_values(metrics) if number.detail_level < 2]


def _column_headings(metrics: Mapping[str, Any]) -> list[str]:
    values = ["value"] if metrics.get("before") is None else ["before", "after", "change"]
    return ["part", "number", *values]


def _read_interval(intervals: Mapping[str, Any] | None, key: str) -> Interval | None:
    low, high = (intervals or {}).get(key) or (None, None)
    return None if low is None or high is None else (float(low), float(high))


def _format_margin(name: str, cell: str, interval: Interval | None) -> str:
    if interval is None or cell in (EMPTY_CELL, "±0"):
        return ""
    text = format_number(name, (interval[1] - interval[0]) / 2).removesuffix(" %")
    if not text.strip("0."):
        return ""
    return "±" + (text if name in _PERCENT_METRICS else text.removeprefix("0"))


def _to_float(value: float | None) -> float:
    return math.nan if value is None else float(value)
