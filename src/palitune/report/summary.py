"""The numbers of a run, before and after: as data, as a terminal table, as Markdown."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from palitune.metrics import higher_is_better

if TYPE_CHECKING:
    from rich.table import Table

# What a result of boxes or masks is quoted by; its other numbers are detail.
_QUOTED = (
    *("f1@.5", "AP50", "AP"),
    *("mask_f1@.5", "mask_AP50", "mask_AP", "mask_iou"),
    *("mean_iou", "cumulative_iou", "box_accuracy@.5"),
)
_MARKS = {"AP", "mask_AP", "cumulative_iou"}
_SHARES = ("malformed", "unfinished")
# Shares of what is written, in percent like them, but detail.
_PERCENT = (*_SHARES, "malformed_fragments", "duplicates", "unknown_label")
# Half of the last digit shown: a smaller change reads as none.
_NO_CHANGE = 5e-4

NOTHING = "–"

Interval = tuple[float, float]
Intervals = tuple[Interval | None, Interval | None, Interval | None]


@dataclass(frozen=True, kw_only=True)
class Number:
    """One number of one part, before and after adaptation; NaN where it is not defined."""

    part: str
    """Empty where the number belongs to no part."""
    name: str
    before: float | None
    """None where nothing was measured before."""
    after: float
    rank: int
    """0 for the number that the part is quoted by, 1 for those beside it, 2 for detail."""
    intervals: Intervals = (None, None, None)
    """95 % intervals of before, after and change; None where there is none."""

    @property
    def change(self) -> float:
        return math.nan if self.before is None else self.after - self.before

    @property
    def improved(self) -> bool | None:
        """Whether the change is one for the better; None where none is, or its interval holds 0."""
        if math.isnan(self.change) or abs(self.change) < _NO_CHANGE:
            return None
        if (interval := self.intervals[2]) and interval[0] <= 0 <= interval[1]:
            return None
        return (self.change > 0) == higher_is_better(self.name)

    @property
    def cells(self) -> list[str]:
        """The values as text: before, after, change; the value alone where there is no before."""
        after = written(self.name, self.after)
        if self.before is None:
            return [after]
        return [written(self.name, self.before), after, written(self.name, self.change, "+")]

    @property
    def margins(self) -> list[str]:
        """Half the width of each cell's interval, `±.021`; empty for before, and where zero."""
        shown = zip(self.cells, self._cell_intervals, strict=True)
        margins = [_margin(self.name, cell, interval) for cell, interval in shown]
        return margins if self.before is None else ["", *margins[1:]]

    @property
    def hints(self) -> list[str]:
        """Each cell's interval in words; empty where there is none."""
        return [
            f"95 % interval: {' to '.join(written(self.name, end) for end in interval)}"
            if interval
            else ""
            for interval in self._cell_intervals
        ]

    @property
    def _cell_intervals(self) -> Sequence[Interval | None]:
        return self.intervals[1:2] if self.before is None else self.intervals


def numbers(metrics: Mapping[str, Any]) -> list[Number]:
    """List the numbers of a `metrics.json`, part by part, the most important ones first."""
    by_part: dict[str, list[str]] = {}
    for key in metrics["after"]:
        part, slash, name = key.partition("/")
        by_part.setdefault(part if slash else "", []).append(name if slash else key)
    before = metrics.get("before")
    intervals = metrics.get("intervals") or {}
    found: list[Number] = []
    for part, names in by_part.items():
        for name, rank in ranked(names).items():
            key = f"{part}/{name}" if part else name
            found.append(
                Number(
                    part=part,
                    name=name,
                    before=None if before is None else _number(before.get(key)),
                    after=_number(metrics["after"][key]),
                    rank=rank,
                    intervals=(
                        _interval(intervals.get("before"), key),
                        _interval(intervals.get("after"), key),
                        _interval(intervals.get("difference"), key),
                    ),
                )
            )
    return found


def slices(
    metrics: Mapping[str, Any], found: Sequence[Number]
) -> dict[str, dict[str, list[tuple[str, int, Number]]]]:
    """List what each part is quoted by for every value of every attribute, with its examples."""
    after = (metrics.get("slices") or {}).get("after") or {}
    before = (metrics.get("slices") or {}).get("before") or {}
    listed: dict[str, dict[str, list[tuple[str, int, Number]]]] = {}
    for quoted in (number for number in found if number.rank == 0):
        for attribute, by_value in after.get(quoted.part, {}).items():
            rows = listed.setdefault(quoted.part, {}).setdefault(attribute, [])
            earlier = before.get(quoted.part, {}).get(attribute, {})
            for value, numbers_of in by_value.items():
                number = replace(
                    quoted,
                    before=None
                    if quoted.before is None
                    else _number(earlier.get(value, {}).get(quoted.name)),
                    after=_number(numbers_of.get(quoted.name)),
                    intervals=(None, None, None),
                )
                rows.append((value, numbers_of["examples"], number))
    return listed


def ranked(names: list[str]) -> dict[str, int]:
    """Order the names of one part by importance, with their rank (see `Number.rank`)."""
    shares = [name for name in names if name in _SHARES]
    others = [name for name in names if name not in _SHARES]
    if _MARKS & set(others):
        quoted = [name for name in _QUOTED if name in others]
        detail = [name for name in others if name not in quoted]
    else:
        quoted, detail = others, []
    main = dict.fromkeys(quoted[:1], 0)
    return main | dict.fromkeys(quoted[1:] + shares, 1) | dict.fromkeys(detail, 2)


def written(name: str, value: float, sign: str = "") -> str:
    """Write a number as reports do: three digits, shares in percent, a dash where undefined."""
    if math.isnan(value):
        return NOTHING
    if sign and abs(value) < _NO_CHANGE:
        return "±0"
    text = f"{value * 100:{sign}.1f} %" if name in _PERCENT else f"{value:{sign}.3f}"
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
    for place, heading in enumerate(_headings(metrics)):
        table.add_column(heading, justify="left" if place < 2 else "right", no_wrap=place >= 2)
    last = None
    for number in _quoted(metrics):
        starts = number.part != last
        if starts and last is not None:
            table.add_section()
        last = number.part
        part = Text(part_title(number.part, metrics) if starts else "")
        name = Text(number.name, style="bold" if number.rank == 0 else "")
        *values, final = number.cells
        colour = {True: "green", False: "red", None: ""}[number.improved]
        margin = (f" {number.margins[-1]}".rstrip(), "dim")
        table.add_row(part, name, *values, Text.assemble((final, colour), margin))
    if any(number.margins[-1] for number in _quoted(metrics)):
        table.caption = "± half the 95 % interval, images drawn anew"
    return table


def metrics_markdown(metrics: Mapping[str, Any]) -> str:
    """Write the same numbers as a Markdown table, for a README or a model card."""
    headings = _headings(metrics)
    rows = [headings, ["---", "---", *["---:"] * (len(headings) - 2)]]
    for number in _quoted(metrics):
        named = [part_title(number.part, metrics), number.name]
        *values, final = number.cells
        cells = [*values, f"{final} {number.margins[-1]}".rstrip()]
        rows.append([cell.replace("|", "\\|") for cell in named] + cells)
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _quoted(metrics: Mapping[str, Any]) -> list[Number]:
    return [number for number in numbers(metrics) if number.rank < 2]


def _headings(metrics: Mapping[str, Any]) -> list[str]:
    values = ["value"] if metrics.get("before") is None else ["before", "after", "change"]
    return ["part", "number", *values]


def _interval(found: Mapping[str, Any] | None, key: str) -> Interval | None:
    low, high = (found or {}).get(key) or (None, None)
    return None if low is None or high is None else (float(low), float(high))


def _margin(name: str, cell: str, interval: Interval | None) -> str:
    if interval is None or cell in (NOTHING, "±0"):
        return ""
    text = written(name, (interval[1] - interval[0]) / 2).removesuffix(" %")
    if not text.strip("0."):
        return ""
    return "±" + (text if name in _PERCENT else text.removeprefix("0"))


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
