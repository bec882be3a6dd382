"""What a run shows: numbers in the terminal, `report.html`, trackers.

Light to import: Pillow, Jinja and the trackers are imported where they are used.
"""

from palitune.report.inspection import show_inspection
from palitune.report.page import write
from palitune.report.pages import made_by
from palitune.report.predictions import show_predictions
from palitune.report.summary import metrics_markdown, metrics_table
from palitune.report.writing import finish, list_skipped, open_run, say, tracked

__all__ = [
    "finish",
    "list_skipped",
    "made_by",
    "metrics_markdown",
    "metrics_table",
    "open_run",
    "say",
    "show_inspection",
    "show_predictions",
    "tracked",
    "write",
]
