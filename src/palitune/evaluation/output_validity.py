"""How much of what a model wrote as objects could not be used: garbled, repeated, not asked for."""

from dataclasses import dataclass, field

import numpy as np

from palitune.evaluation.config import EvaluationConfig
from palitune.metrics.base import FloatArray, ResampleCounts, ratio
from palitune.metrics.objects.duplicates import find_duplicates
from palitune.records import Example, Instance, Value
from palitune.tasks import Task

VALIDITY_METRICS = ("malformed_fragments", "duplicates", "unknown_label")
"""Of everything written, the share that no object could be read from; of the objects, the share
that repeats another one (see `evaluation.duplicate_iou`), and whose label was not asked for."""


@dataclass
class ObjectValidity:
    """Count over all examples of a part; NaN where the model wrote nothing to count."""

    task: Task
    settings: EvaluationConfig
    example_counts: list[tuple[int, ...]] = field(default_factory=list)
    """Of each example: fragments unreadable and in all, repeated objects, objects in all, those of
    an unknown label, and those whose label could be judged."""

    def count_and_deduplicate(
        self, example: Example, text: str, value: Value | None
    ) -> Value | None:
        """Count what an answer holds; return its value, without duplicates if the settings say so.

        Where a prompt tells no labels, none can be unknown.
        """
        if not self.task.validity_metrics:
            return value
        found = [i for i in value or () if isinstance(i, Instance)]
        unreadable = self.task.count_malformed(text)
        repeated = find_duplicates(found, self.settings.duplicate_iou)
        grammar = self.task.grammar(example.prefix)
        known = grammar.labels if grammar else None
        unknown = sum(i.label not in known for i in found) if known else 0
        self.example_counts.append(
            (
                *(unreadable, unreadable + len(found)),
                *(sum(repeated), len(found)),
                *(unknown, len(found) if known else 0),
            )
        )
        if value is None or not self.settings.deduplicate:
            return value
        return tuple(i for i, again in zip(found, repeated, strict=True) if not again)

    def compute(self) -> dict[str, float]:
        numbers = self.compute_weighted(np.ones((1, len(self.example_counts))))
        return {name: float(share[0]) for name, share in numbers.items()}

    def compute_weighted(self, counts: ResampleCounts) -> dict[str, FloatArray]:
        if not self.task.validity_metrics:
            return {}
        sums = (
            counts @ np.array(self.example_counts, float).reshape(-1, 2 * len(VALIDITY_METRICS))
        ).T
        shares = dict(zip(VALIDITY_METRICS, zip(sums[::2], sums[1::2], strict=True), strict=True))
        return {name: ratio(*shares[name]) for name in self.task.validity_metrics}
