"""The page of a comparison: one file with tables and plots, without network or script."""

from palitune.report import comparison_files, comparison_plot
from palitune.report.comparison import Comparison
from palitune.report.templates import render

_NOT_PLOTTED = ("malformed", "unfinished")


def html(comparison: Comparison) -> str:
    """Render a comparison as one self-contained page."""
    from markupsafe import Markup

    plotted = [
        [
            (name, Markup(comparison_plot.svg(table, name)))
            for name in table.quoted
            if name not in _NOT_PLOTTED and comparison_plot.ordered(table, name)
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
        "files": comparison_files,
    }
    return render("comparison.html", content, ("page.css", "comparison.css"))
