"""The page of a comparison: one file with tables and plots, without network or script."""

from palitune.report.comparison import files, interval_plot, setting_curve
from palitune.report.comparison.compare import Comparison, ComparisonTable
from palitune.report.comparison.gains import collect_gains, format_gain
from palitune.report.templates import render_template

_NOT_PLOTTED = ("malformed", "unfinished")


def _draw_plots(table: ComparisonTable, name: str) -> list[tuple[str, str]]:
    """Draw a number, and over the setting that the runs differ in; each with what it shows."""
    key = setting_curve.varied_setting(table)
    curve = setting_curve.draw_setting_curve(table, name, key) if key else ""
    over = f"over {(key or '').removeprefix('data.parts.')}"
    plots = [(over, curve), ("best on top", interval_plot.draw_interval_plot(table, name))]
    return [(said, drawn) for said, drawn in plots if drawn]


def to_html(comparison: Comparison) -> str:
    """Render a comparison as one self-contained page."""
    from markupsafe import Markup

    plotted = [
        [
            (name, said, Markup(drawn))
            for name in table.main_metrics
            if name not in _NOT_PLOTTED
            for said, drawn in _draw_plots(table, name)
        ]
        for table in comparison.tables
    ]
    runs = {
        row.run_part.run.path.resolve(): row.run_part.run
        for table in comparison.tables
        for row in table.rows
    }
    content = {
        "comparison": comparison,
        "sections": list(zip(comparison.tables, plotted, strict=True)),
        "runs": list(runs.values()),
        "gains": collect_gains(comparison.tables),
        "format_gain": format_gain,
        "files": files,
    }
    return render_template("comparison.html", content, ("page.css", "comparison.css"))
