"""What each part of a run confuses: a table of classes, and its largest entries."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from palitune.metrics.objects.confusion_matrix import (
    NO_OBJECT,
    OTHER_LABELS,
    ConfusionMatrix,
    LabelPair,
    answer_label_pair,
    closed_set_classes,
    confusion_matrix,
    is_categorical,
    object_label_pairs,
)
from palitune.report.plots.score_plots import instance_overlaps
from palitune.report.run_reader import EvaluatedExample, get_instances

MAX_CLASSES = 16
"""Classes with a row of their own."""
MAX_LISTED = 8
"""Confusions listed by name, and as many objects missed or invented."""

ConfusionCounts = tuple[tuple[LabelPair, int, float], ...]
"""(reference and prediction, how often, as a share of the reference), the largest first."""


@dataclass(frozen=True)
class PartConfusion:
    part: str
    is_object_task: bool
    matrix: ConfusionMatrix
    class_confusions: ConfusionCounts
    """Two classes confused."""
    unmatched: ConfusionCounts
    """What was missed, invented or malformed."""

    @property
    def titled_lists(self) -> list[tuple[str, ConfusionCounts]]:
        """Both lists under what they are called; only those that hold anything."""
        lone = "missed and invented" if self.is_object_task else "malformed"
        named = [("largest confusions", self.class_confusions), (lone, self.unmatched)]
        return [(name, listed) for name, listed in named if listed]

    def display_name(self, label: str, *, reference: bool) -> str:
        """Write a label as a heading; what stands for no object or for other classes in words."""
        if label == OTHER_LABELS:
            return "other"
        if label != NO_OBJECT:
            return label
        if self.is_object_task:
            return "nothing there" if reference else "missed"
        return "malformed"

    def row_share(self, row: int, column: int) -> float:
        """How much of a row an entry is."""
        return self.matrix.counts[row][column] / max(1, sum(self.matrix.counts[row]))

    def is_correct(self, row: int, column: int) -> bool:
        return row == column and self.matrix.labels[row] not in (NO_OBJECT, OTHER_LABELS)


def confusion_pairs(examples: Sequence[EvaluatedExample]) -> list[list[LabelPair]]:
    """Tell for each example what was taken for what; nothing where a part has no classes."""
    if all(example.draws_boxes for example in examples):
        labels = [item.label for example in examples for item in get_instances(example.reference)]
        if not is_categorical(labels):
            return [[] for _ in examples]
        return [
            object_label_pairs(
                get_instances(example.after.value),
                get_instances(example.reference),
                instance_overlaps(example, example.after),
            )
            for example in examples
        ]
    references = [[t for t in example.reference if isinstance(t, str)] for example in examples]
    classes = closed_set_classes(references)
    if not classes:
        return [[] for _ in examples]
    return [
        [answer_label_pair(_predicted_text(example), texts, classes)] if texts else []
        for example, texts in zip(examples, references, strict=True)
    ]


def summarize_confusion(
    part: str, examples: Sequence[EvaluatedExample], pairs: Sequence[list[LabelPair]]
) -> PartConfusion:
    """Sum up what `pairs_of` found in a part."""
    counted = Counter(pair for found in pairs for pair in found)
    wanted = Counter[str]()
    for (reference, _), count in counted.items():
        wanted[reference] += count
    wrong = [
        (pair, count, count / wanted[pair[0]])
        for pair, count in sorted(counted.items(), key=lambda entry: (-entry[1], entry[0]))
        if pair[0] != pair[1]
    ]
    return PartConfusion(
        part=part,
        is_object_task=all(example.draws_boxes for example in examples),
        matrix=confusion_matrix(counted, MAX_CLASSES),
        class_confusions=tuple(entry for entry in wrong if NO_OBJECT not in entry[0])[:MAX_LISTED],
        unmatched=tuple(entry for entry in wrong if NO_OBJECT in entry[0])[:MAX_LISTED],
    )


def _predicted_text(example: EvaluatedExample) -> str | None:
    return example.after.value if isinstance(example.after.value, str) else None
