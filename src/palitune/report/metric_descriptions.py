"""Descriptions of the metrics of a run, taken from the docstrings of their modules."""

import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from palitune.errors import MetricError
from palitune.metrics import METRICS


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
