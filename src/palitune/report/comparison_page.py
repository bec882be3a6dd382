"""The page of a comparison: one file with tables and plots, without network or script."""

from palitune.report import comparison_curve, comparison_files, comparison_plot
from palitune.report.comparison import Comparison, Table
from palitune.report.comparison_gains import gains, told
from palitune.report.templates import render

_NOT_PLOTTED = ("malformed", "unfinished")


def _plots(table: Table, name: str) -> list[tuple[str, str]]:
    """Draw a number, and over the setting that the runs differ in; each with what it shows."""
    key = comparison_curve.setting(table)
    curve = comparison_curve.svg(table, name, key) if key else ""
    over = f"over {(key or '').removeprefix('data.parts.')}"
    plots = [(over, curve), ("best on top", comparison_plot.svg(table, name))]
    return [(said, drawn) for said, drawn in plots if drawn]


def html(comparison: Comparison) -> str:
    """Render a comparison as one self-contained page."""
    from markupsafe import Markup

    plotted = [
        [
            (name, said, Markup(drawn))
            for name in table.quoted
            if name not in _NOT_PLOTTED
            for said, drawn in _plots(table, name)
        ]
        for table in comparison.tables
    ]
    runs = {
        row.entry.run.path.resolve(): row.entry.run
        for table in comparison.tables
        for row in table.rows
    }
    content = {
        "comparison": comparison,
        "sections": list(zip(comparison.tables, plotted, strict=True)),
        "runs": list(runs.values()),
        "gains": gains(comparison.tables),
        "told": told,
        "files": comparison_files,
    }
    return render("comparison.html", content, ("page.css", "comparison.css"))
