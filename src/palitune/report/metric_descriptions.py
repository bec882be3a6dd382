"""What the numbers of a run are: the metrics that it was judged by, in words."""

import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from palitune.errors import MetricError
from palitune.metrics import METRICS


def describe_metrics(settings: Mapping[str, Any]) -> dict[str, str]:
    """Tell what each metric is that the tasks of a parsed `config.yaml` are judged by."""
    named = dict.fromkeys(
        name for task in _task_settings(settings) for name in task.get("metrics") or ()
    )
    return {name: describe_metric(name) for name in named if name in METRICS}


def describe_metric(metric: str) -> str:
    """Say what a metric is in the words of its module: its first sentence, and its variant's."""
    maker: Any = METRICS[metric]
    try:
        module = type(maker()).__module__
    except MetricError:  # it lacks a program here; what it is can be told all the same
        module = maker.__module__
    told = " ".join((sys.modules[module].__doc__ or "").split())
    sentences = re.split(r"(?<=[.;]) (?=[`A-Z])", told)
    variant = [sentence for sentence in sentences[1:] if sentence.startswith(f"`{metric}` ")]
    return " ".join([sentences[0], *variant]).rstrip(".;").replace("`", "") + "."


def _task_settings(settings: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The settings of every task: the run's own, or those of the parts of a mixture."""
    data = settings.get("data")
    parts = data.get("parts") if isinstance(data, dict) else None
    for holder in (settings, *(parts.values() if isinstance(parts, dict) else ())):
        if isinstance(holder, dict) and isinstance(holder.get("task"), dict):
            yield holder["task"]
