"""HTML page of a comparison: tables and plots."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from palitune.report.comparison import formatting
from palitune.report.comparison.compare import Comparison, ComparisonTable
from palitune.report.comparison.gains import collect_gains
from palitune.report.comparison.interval_plot import draw_interval_plot
from palitune.report.comparison.setting_curve import draw_setting_curve, varied_setting
from palitune.report.metric_descriptions import define_values
from palitune.report.rendering import write_page

_NOT_PLOTTED = ("malformed", "unfinished")


def write_comparison_page(file: Path, comparison: Comparison) -> Path:
    """Write the page of a comparison and return its path."""
    runs = {
        row.run_part.run.path.resolve(): row.run_part.run
        for table in comparison.tables
        for row in table.rows
    }
    sections = [(f"part-{n}", table.title) for n, table in enumerate(comparison.tables, start=1)]
    content = {
        "title": f"Comparison of {len(runs)} runs",
        "sections": sections if len(sections) > 1 else [],
        "comparison": comparison,
        "plots": [list(_draw_plots(table)) for table in comparison.tables],
        "runs": list(runs.values()),
        "gains": collect_gains(comparison.tables),
        "formatting": formatting,
        "definitions": _define_metrics(comparison.tables),
    }
    return write_page(file, "comparison.html", content, styles=("comparison.css",))


def _define_metrics(tables: Iterable[ComparisonTable]) -> dict[str, str]:
    """Return the definition of each metric of the tables by its name."""
    definitions: dict[str, str] = {}
    for table in tables:
        for row in table.rows:
            metrics_by_part = row.run_part.run.metrics.get("metrics") or {}
            definitions |= define_values(row.metric_values.values(), metrics_by_part)
    return definitions


def _draw_plots(table: ComparisonTable) -> Iterator[tuple[str, str, str]]:
    """Yield (metric, description, drawing) of every plot of a table."""
    from markupsafe import Markup

    key = varied_setting(table)
    for name in table.main_metrics:
        if name in _NOT_PLOTTED:
            continue
        if key and (curve := draw_setting_curve(table, name, key)):
            yield name, f"over {key.removeprefix('data.parts.')}", Markup(curve)
        if plot := draw_interval_plot(table, name):
            yield name, "best on top", Markup(plot)
