"""Rates of unusable output: malformed or truncated text, duplicate and unknown objects."""

from typing import ClassVar

from palitune.evaluation.config import EvaluationConfig
from palitune.metrics.base import (
    FloatArray,
    ResampleCounts,
    StatisticsMetric,
    ratio,
    weighted_mean,
)
from palitune.metrics.objects.duplicates import find_duplicates
from palitune.records import Example, Instance, Value
from palitune.tasks import Task

VALIDITY_METRICS = ("malformed_fragments", "duplicates", "unknown_label")
"""Share of the generated fragments that cannot be parsed as an object; share of the objects that
repeat another one (`evaluation.duplicate_iou`); share whose label is not in the prompt."""


class OutputValidity(StatisticsMetric):
    """Shares of the texts that are malformed, and that are cut off at `task.max_new_tokens`."""

    num_statistics: ClassVar[int] = 2

    def update(self, malformed: bool, truncated: bool) -> None:
        self.statistics.append((malformed, truncated))

    def compute_weighted(self, counts: ResampleCounts) -> dict[str, FloatArray]:
        malformed, truncated = self.columns()
        return {
            "malformed": weighted_mean(counts, malformed),
            "unfinished": weighted_mean(counts, truncated),
        }


class ObjectValidity(StatisticsMetric):
    """Shares of the generated objects, by `VALIDITY_METRICS`; NaN if nothing was generated.

    The statistics are three pairs: malformed fragments and all fragments, duplicates and objects,
    unknown labels and objects with a label that could be checked.
    """

    num_statistics: ClassVar[int] = 2 * len(VALIDITY_METRICS)

    def __init__(self, task: Task, settings: EvaluationConfig) -> None:
        super().__init__()
        self.task, self.settings = task, settings

    def count_and_deduplicate(
        self, example: Example, text: str, value: Value | None
    ) -> Value | None:
        """Count the objects of a prediction. Return its value, deduplicated if so configured.

        Without labels in the prompt no label counts as unknown.
        """
        if not self.task.validity_metrics:
            return value
        objects = [i for i in value or () if isinstance(i, Instance)]
        num_malformed = self.task.count_malformed(text)
        is_duplicate = find_duplicates(objects, self.settings.duplicate_iou)
        grammar = self.task.grammar(example.prefix)
        labels = grammar.labels if grammar else None
        num_unknown = sum(i.label not in labels for i in objects) if labels else 0
        self.statistics.append(
            (
                *(num_malformed, num_malformed + len(objects)),
                *(sum(is_duplicate), len(objects)),
                *(num_unknown, len(objects) if labels else 0),
            )
        )
        if value is None or not self.settings.deduplicate:
            return value
        return tuple(i for i, repeated in zip(objects, is_duplicate, strict=True) if not repeated)

    def compute_weighted(self, counts: ResampleCounts) -> dict[str, FloatArray]:
        if not self.task.validity_metrics:
            return {}
        sums = self.sums(counts)
        shares = dict(zip(VALIDITY_METRICS, map(ratio, sums[::2], sums[1::2]), strict=True))
        return {name: shares[name] for name in self.task.validity_metrics}
