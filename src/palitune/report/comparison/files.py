"""Write a comparison: `comparison.md`, `comparison.csv`, `comparison.html`, and what is said."""

import csv
import io
import math
from pathlib import Path
from typing import TYPE_CHECKING

from palitune.report.comparison import gains as gains_module
from palitune.report.comparison.compare import Comparison, ComparisonRow, ComparisonTable
from palitune.report.comparison.gains import TrainingGains
from palitune.report.metrics_table import EMPTY_CELL, Interval, format_number

if TYPE_CHECKING:
    from rich.table import Table as RichTable
    from rich.text import Text

INTERVAL_NOTE = (
    "Intervals are 95 %: images drawn anew. Changes are those to the baseline on the same drawn "
    "images; better or worse is said where their interval leaves out zero. Of many runs some will "
    "lie outside by chance."
)


def write_comparison_files(comparison: Comparison, folder: Path) -> Path:
    """Write the three files into a folder and return the page."""
    from palitune.report.comparison.page import to_html

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "comparison.md").write_text(to_markdown(comparison), encoding="utf-8")
    (folder / "comparison.csv").write_text(to_csv(comparison), encoding="utf-8")
    page = folder / "comparison.html"
    page.write_bytes(to_html(comparison).encode("utf-8", "replace"))
    return page


def print_comparison(comparison: Comparison, page: Path) -> None:
    """Print the tables and warnings, and where the files are."""
    from rich import print as say
    from rich.markup import escape

    for table in comparison.tables:
        say(_terminal_table(table))
    if found := gains_module.collect_gains(comparison.tables):
        say(_terminal_gains_table(found))
    for warning in comparison.warnings:
        say(f"[yellow]![/yellow] {escape(warning)}")
    print(f"comparison: {page}, and as comparison.md and comparison.csv beside it")


def format_value(row: ComparisonRow, name: str) -> str:
    """A number with its interval, `0.628 [0.578, 0.677]`; a dash where the run has none."""
    number = row.metric_values.get(name)
    if number is None:
        return EMPTY_CELL
    return f"{format_number(name, number.after)}{_format_interval(name, number.intervals[1])}"


def format_change(row: ComparisonRow, name: str) -> str:
    """The change to the baseline, `+0.456 [+0.403, +0.508] better`; empty where none is known."""
    number = row.metric_values.get(name)
    if number is None or math.isnan(number.change):
        return ""
    interval = _format_interval(name, number.intervals[2], "+")
    return f"{format_number(name, number.change, '+')}{interval} {row.verdict(name)}".rstrip()


def _format_interval(name: str, interval: Interval | None, sign: str = "") -> str:
    """An interval in brackets; nothing where it has no width that could be seen."""
    low, high = (format_number(name, end, sign) for end in interval or (math.nan, math.nan))
    return "" if low == high else f" [{low}, {high}]"


def to_markdown(comparison: Comparison) -> str:
    """Write a table per part; the warnings come first."""
    blocks = ["# Comparison\n"]
    blocks += [f"**Mind:** {_escape_markdown(warning)}\n" for warning in comparison.warnings]
    for table in comparison.tables:
        rows = [["run", *table.main_metrics], ["---", *["---"] * len(table.main_metrics)]]
        for row in table.rows:
            of_baseline = " (baseline)" if row is table.baseline else ""
            cells = [
                "<br>".join(filter(None, (format_value(row, n), format_change(row, n))))
                for n in table.main_metrics
            ]
            rows.append([_escape_markdown(row.label) + of_baseline, *cells])
        lines = "".join(f"| {' | '.join(cells)} |\n" for cells in rows)
        blocks.append(f"## {_escape_markdown(table.title)}\n\n{lines}")
    if found := gains_module.collect_gains(comparison.tables):
        rows = [
            ["run", *map(_escape_markdown, found.titles)],
            ["---", *["---"] * len(found.titles)],
        ]
        for label, numbers in found.rows:
            told = [
                " ".join(gains_module.format_gain(one)).rstrip() if one else "" for one in numbers
            ]
            rows.append([_escape_markdown(label), *told])
        lines = "".join(f"| {' | '.join(cells)} |\n" for cells in rows)
        blocks.append(f"## What training changed\n\n{lines}")
    return "\n".join([*blocks, INTERVAL_NOTE + "\n"])


def _escape_markdown(text: str) -> str:
    """A text that neither ends a cell nor formats anything."""
    for mark in "\\|*_<`[":
        text = text.replace(mark, "\\" + mark)
    return text.replace("\n", " ")


def to_csv(comparison: Comparison) -> str:
    """Write a row per run and part, and per number its interval and its change, six columns."""
    names = dict.fromkeys(name for table in comparison.tables for name in table.detail_levels)
    ends = ("", "_low", "_high", "_change", "_change_low", "_change_high")
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(
        ["part", "run", "folder", "split", "examples", "baseline", "warnings"]
        + [name + end for name in names for end in ends]
    )
    for table in comparison.tables:
        told = " ".join(f"{warning}." for warning in (*comparison.failed_jobs, *table.warnings))
        for row in table.rows:
            run = row.run_part.run
            count = run.metrics.get("examples", {}).get(row.run_part.part, "")
            first = [table.title, row.label, str(run.path), run.metrics.get("split", ""), count]
            cells = [cell for name in names for cell in _csv_cells(row, name)]
            writer.writerow([*first, table.baseline.label, told, *cells])
    return file.getvalue()


def _csv_cells(row: ComparisonRow, name: str) -> list[str]:
    number = row.metric_values.get(name)
    if number is None:
        return [""] * 6
    own, changes = (number.intervals[place] or (math.nan, math.nan) for place in (1, 2))
    values = [number.after, *own, number.change, *changes]
    return ["" if math.isnan(value) else repr(value) for value in values]


def _terminal_table(table: ComparisonTable) -> "RichTable":
    from rich.table import Table as RichTable
    from rich.text import Text

    shown = RichTable(title=table.title or None, caption="± half the 95 % interval")
    shown.add_column("run", overflow="fold")
    for name in table.main_metrics:
        shown.add_column(name, justify="right")
    for row in table.rows:
        label = Text(row.label)
        if row is table.baseline:
            label.append(" (baseline)", "dim")
        cells = [_terminal_cell(row, name) for name in table.main_metrics]
        shown.add_row(label, *cells)
    return shown


def _terminal_gains_table(gains: TrainingGains) -> "RichTable":
    from rich.table import Table as RichTable
    from rich.text import Text

    shown = RichTable(title="what training changed")
    for title in ("run", *gains.titles):
        shown.add_column(title, overflow="fold")
    for label, numbers in gains.rows:
        cells = [
            "\n".join(gains_module.format_gain(one)).rstrip() if one else "" for one in numbers
        ]
        shown.add_row(Text(label), *map(Text, cells))
    return shown


def _terminal_cell(row: ComparisonRow, name: str) -> "Text":
    """The number over its change, with half the widths of their intervals."""
    from rich.text import Text

    number = row.metric_values.get(name)
    if number is None:
        return Text(EMPTY_CELL)
    if number.before is None:
        return Text(f"{number.cells[0]} {number.margins[0]}".rstrip())
    _, *both = zip(number.cells, number.margins, strict=True)
    own, changed = (f"{cell} {margin}".rstrip() for cell, margin in both)
    colour = {"better": "green", "worse": "red", "": "dim"}[row.verdict(name)]
    return Text.assemble(own, "\n", (changed, colour))
