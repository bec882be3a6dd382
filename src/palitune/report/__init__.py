"""What a run shows: numbers in the terminal, pages, trackers.

A function's module is imported when it is first asked for, so that a command line that shows
nothing has nothing to import.
"""

from typing import TYPE_CHECKING

from palitune.lazily import lazily

if TYPE_CHECKING:
    from palitune.report.inspection import show_inspection
    from palitune.report.machine import environment, told
    from palitune.report.page import write
    from palitune.report.pages import made_by
    from palitune.report.plan import show_plan
    from palitune.report.predictions import show_predictions
    from palitune.report.summary import metrics_markdown, metrics_table
    from palitune.report.writing import compare, finish, list_skipped, open_run, say, tracked

__getattr__ = lazily(
    __name__,
    {
        "show_inspection": "inspection",
        "environment": "machine",
        "told": "machine",
        "write": "page",
        "made_by": "pages",
        "show_plan": "plan",
        "show_predictions": "predictions",
        "metrics_markdown": "summary",
        "metrics_table": "summary",
        "compare": "writing",
        "finish": "writing",
        "list_skipped": "writing",
        "open_run": "writing",
        "say": "writing",
        "tracked": "writing",
    },
)

__all__ = [
    "compare",
    "environment",
    "finish",
    "list_skipped",
    "made_by",
    "metrics_markdown",
    "metrics_table",
    "open_run",
    "say",
    "show_inspection",
    "show_plan",
    "show_predictions",
    "told",
    "tracked",
    "write",
]
