"""Write a comparison as `comparison.md`, `comparison.csv` and `comparison.html`, and print it."""

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from palitune.distributed.terminal import print_line
from palitune.report.comparison.compare import Comparison, ComparisonRow, ComparisonTable
from palitune.report.comparison.formatting import (
    INTERVAL_NOTE,
    format_change,
    format_gain,
    format_value,
)
from palitune.report.comparison.gains import TrainingGains, collect_gains
from palitune.report.comparison.page import write_comparison_page
from palitune.report.metrics_table import EMPTY_CELL
from palitune.report.tables import Cell, TextTable, escape_markdown

if TYPE_CHECKING:
    from rich.text import Text


def write_comparison_files(comparison: Comparison, folder: Path) -> Path:
    """Write the three files into a folder and return the path of the page."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "comparison.md").write_text(to_markdown(comparison), encoding="utf-8")
    (folder / "comparison.csv").write_text(to_csv(comparison), encoding="utf-8")
    return write_comparison_page(folder / "comparison.html", comparison)


def print_comparison(comparison: Comparison, page: Path) -> None:
    """Print the tables and warnings, and the path of the page."""
    from rich import print as print_rich

    for table in comparison.tables:
        note = "± half the 95 % bootstrap confidence interval"
        print_rich(_comparison_table(table, _terminal_rows(table), note).to_rich())
    if gains := collect_gains(comparison.tables):
        print_rich(_gains_table(gains).to_rich())
    for warning in comparison.warnings:
        print_line(warning, "!", "yellow")
    print(f"comparison: {page} (also as comparison.md and comparison.csv)")


def to_markdown(comparison: Comparison) -> str:
    """Return the warnings, a table per part and the changes by training as Markdown."""
    blocks = ["# Comparison\n"]
    blocks += [f"**Warning:** {escape_markdown(warning)}\n" for warning in comparison.warnings]
    tables = [_comparison_table(table, _text_rows(table)) for table in comparison.tables]
    if gains := collect_gains(comparison.tables):
        tables.append(_gains_table(gains))
    for table in tables:
        blocks.append(f"## {escape_markdown(table.title)}\n\n{table.to_markdown()}")
    return "\n".join([*blocks, INTERVAL_NOTE + "\n"])


def to_csv(comparison: Comparison) -> str:
    """Return a row per run and part, with six columns per metric: value, change and bounds."""
    names = dict.fromkeys(name for table in comparison.tables for name in table.detail_levels)
    endings = ("", "_low", "_high", "_change", "_change_low", "_change_high")
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(
        ["part", "run", "folder", "split", "examples", "baseline", "warnings"]
        + [name + ending for name in names for ending in endings]
    )
    for table in comparison.tables:
        warnings = " ".join(f"{text}." for text in (*comparison.failed_jobs, *table.warnings))
        for row in table.rows:
            run = row.run_part.run
            count = run.metrics.get("examples", {}).get(row.run_part.part, "")
            first = [table.title, row.label, str(run.path), run.metrics.get("split", ""), count]
            cells = [cell for name in names for cell in _csv_cells(row, name)]
            writer.writerow([*first, table.baseline.label, warnings, *cells])
    return file.getvalue()


def _csv_cells(row: ComparisonRow, name: str) -> list[str]:
    metric = row.metric_values.get(name)
    if metric is None:
        return [""] * 6
    bounds, changes = (metric.intervals[index] or (math.nan, math.nan) for index in (1, 2))
    values = [metric.after, *bounds, metric.change, *changes]
    return ["" if math.isnan(value) else repr(value) for value in values]


def _comparison_table(
    table: ComparisonTable, rows: Sequence[Sequence[Cell]], note: str = ""
) -> TextTable:
    return TextTable(["run", *table.main_metrics], rows, note, table.title)


def _text_rows(table: ComparisonTable) -> list[list[str]]:
    """Return values over changes, both with their intervals."""
    rows = []
    for row in table.rows:
        label = row.label + (" (baseline)" if row is table.baseline else "")
        pairs = ((format_value(row, n), format_change(row, n)) for n in table.main_metrics)
        rows.append([label, *("\n".join(str(text) for text in pair if text) for pair in pairs)])
    return rows


def _terminal_rows(table: ComparisonTable) -> list[list[Cell]]:
    """Return colored values over changes, with half the widths of their intervals."""
    from rich.text import Text

    rows: list[list[Cell]] = []
    for row in table.rows:
        label = Text(row.label)
        if row is table.baseline:
            label.append(" (baseline)", "dim")
        rows.append([label, *(_terminal_cell(row, name) for name in table.main_metrics)])
    return rows


def _terminal_cell(row: ComparisonRow, name: str) -> "Text":
    from rich.text import Text

    metric = row.metric_values.get(name)
    if metric is None:
        return Text(EMPTY_CELL)
    pairs = zip(metric.cells, metric.margins, strict=True)
    texts = [f"{cell} {margin}".rstrip() for cell, margin in pairs]
    if metric.before is None:
        return Text(texts[0])
    color = {"better": "green", "worse": "red", "": "dim"}[row.verdict(name)]
    return Text.assemble(texts[1], "\n", (texts[2], color))


def _gains_table(gains: TrainingGains) -> TextTable:
    rows = []
    for label, metrics in gains.rows:
        cells = ["\n".join(map(str, format_gain(m))) if m else EMPTY_CELL for m in metrics]
        rows.append([label, *cells])
    return TextTable(["run", *gains.titles], rows, title="Changes by training")
