"""The page of a comparison: one file with tables and plots, without network or script."""

from pathlib import Path

from palitune.report import comparison_files, comparison_plot
from palitune.report.comparison import Comparison
from palitune.report.drawing import printable

_HERE = Path(__file__).parent
_NOT_PLOTTED = ("malformed", "unfinished")


def html(comparison: Comparison) -> str:
    """Render a comparison as one self-contained page."""
    import jinja2
    from markupsafe import Markup

    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    plotted = [
        [
            (name, Markup(comparison_plot.svg(table, name)))
            for name in table.quoted
            if name not in _NOT_PLOTTED and comparison_plot.ordered(table, name)
        ]
        for table in comparison.tables
    ]
    styles = ("page.css", "comparison.css")
    runs = {
        row.entry.run.path.resolve(): row.entry.run
        for table in comparison.tables
        for row in table.rows
    }
    return templates.get_template("comparison.html").render(
        comparison=comparison,
        sections=list(zip(comparison.tables, plotted, strict=True)),
        runs=list(runs.values()),
        files=comparison_files,
        style=Markup("\n".join((_HERE / name).read_text(encoding="utf-8") for name in styles)),
    )
