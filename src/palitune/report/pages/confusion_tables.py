"""Confusion matrix of each part of a run, with its largest entries."""

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
"""Maximum number of classes with their own row."""
MAX_LISTED = 8
"""Maximum number of listed confusions, and of listed missed or spurious objects."""

ConfusionCounts = tuple[tuple[LabelPair, int, float], ...]
"""((reference, prediction), count, share of the reference class), in descending order."""


@dataclass(frozen=True)
class PartConfusion:
    part: str
    is_object_task: bool
    matrix: ConfusionMatrix
    class_confusions: ConfusionCounts
    """Confusions of two classes."""
    unmatched: ConfusionCounts
    """Missed, spurious or malformed predictions."""

    @property
    def titled_lists(self) -> list[tuple[str, ConfusionCounts]]:
        """The lists that are not empty, with their titles."""
        title = "missed and spurious objects" if self.is_object_task else "malformed"
        lists = [("largest confusions", self.class_confusions), (title, self.unmatched)]
        return [(name, counts) for name, counts in lists if counts]

    def display_name(self, label: str, *, reference: bool) -> str:
        """Return a label for a heading, with words for no object and for other classes."""
        if label == OTHER_LABELS:
            return "other"
        if label != NO_OBJECT:
            return label
        if self.is_object_task:
            return "no object" if reference else "missed"
        return "malformed"

    def row_share(self, row: int, column: int) -> float:
        """Return an entry as a share of its row."""
        return self.matrix.counts[row][column] / max(1, sum(self.matrix.counts[row]))

    def is_correct(self, row: int, column: int) -> bool:
        return row == column and self.matrix.labels[row] not in (NO_OBJECT, OTHER_LABELS)


def confusion_pairs(examples: Sequence[EvaluatedExample]) -> list[list[LabelPair]]:
    """Return the (reference, prediction) classes of each example; empty without classes."""
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
    """Summarize the result of `confusion_pairs` for a part."""
    counts = Counter(pair for pairs_of_example in pairs for pair in pairs_of_example)
    totals = Counter[str]()
    for (reference, _), count in counts.items():
        totals[reference] += count
    wrong = [
        (pair, count, count / totals[pair[0]])
        for pair, count in sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
        if pair[0] != pair[1]
    ]
    return PartConfusion(
        part=part,
        is_object_task=all(example.draws_boxes for example in examples),
        matrix=confusion_matrix(counts, MAX_CLASSES),
        class_confusions=tuple(entry for entry in wrong if NO_OBJECT not in entry[0])[:MAX_LISTED],
        unmatched=tuple(entry for entry in wrong if NO_OBJECT in entry[0])[:MAX_LISTED],
    )


def _predicted_text(example: EvaluatedExample) -> str | None:
    return example.after.value if isinstance(example.after.value, str) else None
