"""Tables of the error types and of the thresholds of boxes and masks."""

import math
from collections.abc import Mapping
from typing import Any

from palitune.metrics.objects.quality.error_types import ERROR_TYPES
from palitune.report.metrics_table import format_number
from palitune.report.tables import TextTable

MAX_CLASSES = 50
"""Maximum number of classes in the table of thresholds, those with the most objects."""


def error_type_tables(metrics: Mapping[str, Any], num_parts: int) -> list[TextTable]:
    """Return a table of the error types for each part in `metrics.json` that has them.

    Args:
        metrics: Content of `metrics.json`.
        num_parts: Number of parts of the run; a single one is not named.
    """
    found = metrics.get("error_types") or {}
    before = found.get("before") or {}
    return [
        _error_table(part if num_parts > 1 else "", after, before.get(part))
        for part, after in (found.get("after") or {}).items()
    ]


def threshold_tables(metrics: Mapping[str, Any], num_parts: int) -> list[TextTable]:
    """Return a table of the thresholds for each part in `metrics.json` that has them.

    Args:
        metrics: Content of `metrics.json`.
        num_parts: Number of parts of the run; a single one is not named.
    """
    return [
        _threshold_table(part if num_parts > 1 else "", thresholds)
        for part, thresholds in (metrics.get("thresholds") or {}).items()
    ]


def _error_table(
    title: str, after: Mapping[str, Any], before: Mapping[str, Any] | None
) -> TextTable:
    rows, bars = [], []
    for name, meaning in ERROR_TYPES.items():
        numbers = [
            text
            for side in ([before] if before else []) + [after]
            for text in (
                f"{side['types'][name]['count']:,}",
                format_number("AP50", side["types"][name]["cost"]),
            )
        ]
        rows.append((f"{name}: {meaning}", *numbers))
        bars.append(min(1.0, after["types"][name]["cost"]))
    columns = ("before", "AP cost", "after", "AP cost") if before else ("count", "AP cost")
    note = (
        f"The AP at IoU .5 is {after['ap']:.3f}. The AP cost of a type is the AP that its "
        "correction would add, as in TIDE; the costs do not add up. All wrong objects cost "
        f"{after['false_positives']:.3f}, all missed ones {after['false_negatives']:.3f}."
    )
    return TextTable(("error", *columns), rows, note, title, bars)


def _threshold_table(title: str, thresholds: Mapping[str, Any]) -> TextTable:
    classes = dict(list(thresholds["classes"].items())[:MAX_CLASSES])
    rows = [
        (name, f"{point['objects']:,}", *map(_format, _values(point)))
        for name, point in [("all classes", thresholds["overall"]), *classes.items()]
    ]
    note = "The lowest score with the best F1 on this split."
    if len(classes) < len(thresholds["classes"]):
        note += f" Only the {len(classes)} most frequent classes are shown."
    columns = ("class", "objects", "min_score", "precision", "recall", "F1")
    return TextTable(columns, rows, note, title)


def _values(point: Mapping[str, Any]) -> list[float | None]:
    return [point[name] for name in ("threshold", "precision", "recall", "f1")]


def _format(value: float | None) -> str:
    return format_number("f1", math.nan if value is None else value)
