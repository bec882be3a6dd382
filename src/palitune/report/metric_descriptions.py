"""Descriptions of the metrics of a run, taken from the docstrings of their modules."""

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from palitune.errors import MetricError
from palitune.metrics import METRICS
from palitune.report.metrics_table import MetricValue

_COCO = {
    "AP": "Average precision of COCO: the area below precision over recall, mean over classes and "
    "over the IoU thresholds .5, .55, ..., .95.",
    "AP50": "Average precision of COCO at IoU .5, mean over classes.",
    "AP75": "Average precision of COCO at IoU .75, mean over classes.",
    "APs": "AP of objects with an area up to 32² pixels.",
    "APm": "AP of objects with an area from 32² to 96² pixels.",
    "APl": "AP of objects with an area above 96² pixels.",
    "AR1": "Recall with one object per image, mean over classes and IoU thresholds.",
    "AR10": "Recall with 10 objects per image, mean over classes and IoU thresholds.",
    "AR100": "Recall with 100 objects per image, mean over classes and IoU thresholds.",
    "precision@.5": "Share of predicted objects that match a reference object of their class with "
    "IoU of at least .5. It does not depend on scores.",
    "recall@.5": "Share of reference objects that a predicted object of their class matches with "
    "IoU of at least .5. It does not depend on scores.",
    "f1@.5": "Harmonic mean of precision and recall at IoU .5 over all objects. It does not depend "
    "on scores.",
}
_DEFINITIONS = {
    **_COCO,
    **{f"mask_{name}": f"Of masks: {text}" for name, text in _COCO.items()},
    "mask_iou": "Mean IoU of the masks of matched objects.",
    "mean_iou": "Mean of the IoU over examples.",
    "cumulative_iou": "Sum of all intersections divided by the sum of all unions.",
    "malformed": "Share of generated texts that could not be parsed. They are scored as empty.",
    "unfinished": "Share of generated texts that reached task.max_new_tokens without an end token.",
    "malformed_fragments": "Share of the pieces of generated texts that are no object.",
    "duplicates": "Share of predicted objects that repeat another one of the same image.",
    "unknown_label": "Share of predicted objects with a label that is not in task.classes.",
}
"""Definitions of reported numbers that are not metrics by name."""


def define_values(
    values: Iterable[MetricValue], metrics_by_part: Mapping[str, Iterable[str]]
) -> dict[str, str]:
    """Return the definition of each reported number by its name.

    Args:
        values: Reported numbers.
        metrics_by_part: Names of the metrics of each part. The only metric of a part defines its
            numbers that have no definition of their own.
    """
    definitions: dict[str, str] = {}
    for value in values:
        named = [name for name in metrics_by_part.get(value.part) or () if name in METRICS]
        if definition := define_value(value.name):
            definitions[value.name] = definition
        elif len(named) == 1:
            definitions.setdefault(value.name, describe_metric(named[0]))
    return definitions


def define_value(name: str) -> str:
    """Return the definition of a metric or of another reported number; empty without one."""
    if name in _DEFINITIONS:
        return _DEFINITIONS[name]
    return describe_metric(name) if name in METRICS else ""


def describe_metrics(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return a description for each metric of the tasks in a parsed `config.yaml`."""
    named = dict.fromkeys(
        name for task in _task_settings(settings) for name in task.get("metrics") or ()
    )
    return {name: describe_metric(name) for name in named if name in METRICS}


def describe_metric(metric: str) -> str:
    """Return the first sentence of the docstring of a metric's module, and that of its variant."""
    create: Any = METRICS[metric]
    try:
        module = type(create()).__module__
    except MetricError:  # a program is missing here, which a description does not need
        module = create.__module__
    docstring = " ".join((sys.modules[module].__doc__ or "").split())
    sentences = re.split(r"(?<=[.;]) (?=[`A-Z])", docstring)
    variant = [sentence for sentence in sentences[1:] if sentence.startswith(f"`{metric}` ")]
    return " ".join([sentences[0], *variant]).rstrip(".;").replace("`", "") + "."


def _task_settings(settings: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the settings of every task: that of the run, or those of the mixture components."""
    data = settings.get("data")
    parts = data.get("parts") if isinstance(data, dict) else None
    for group in (settings, *(parts.values() if isinstance(parts, dict) else ())):
        if isinstance(group, dict) and isinstance(group.get("task"), dict):
            yield group["task"]
