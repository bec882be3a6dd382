"""Confusion matrix over object classes or closed-set answers.

Objects of one label are matched first, as in `matching.match_pairs`; the remaining ones are then
matched regardless of their label, the best IoU first, with at least IoU .5. So the diagonal holds
the objects that precision, recall and F1 at IoU .5 count as correct.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from palitune.metrics.objects.matching import (
    MATCH_IOU,
    Overlaps,
    box_overlaps,
    false_positives,
    match_pairs,
)
from palitune.records import Instance

NO_OBJECT = ""
"""Label of no object: the prediction of a missed one, the reference of an invented one."""
OTHER_LABELS = "\N{HORIZONTAL ELLIPSIS}"
"""Label of all classes beyond the size of a table, and of answers outside the closed set."""

MAX_CLOSED_SET_CLASSES = 30
"""Largest number of distinct reference answers of a closed set."""
MIN_MEAN_OCCURRENCES = 3
"""Smallest mean number of occurrences of reference labels that count as classes."""
MAX_CLASS_NAME_LENGTH = 40
"""Characters of the longest answer that can be the name of a class."""

LabelPair = tuple[str, str]
"""(label of the reference, label of the prediction)."""


@dataclass(frozen=True)
class ConfusionMatrix:
    """Number of examples or objects by reference and predicted label."""

    labels: tuple[str, ...]
    """Rows and columns; `OTHER_LABELS` and `NO_OBJECT` are last, if they occur."""
    counts: tuple[tuple[int, ...], ...]
    """By reference (row) and prediction (column)."""


def object_label_pairs(
    predicted: Sequence[Instance],
    reference: Sequence[Instance],
    overlaps: Overlaps | None = None,
) -> list[LabelPair]:
    """Return the label pairs of one example; `overlaps` default to those of the boxes.

    Crowds are in no pair, and neither are predictions inside a crowd of their label.
    """
    overlaps = box_overlaps(predicted, reference) if overlaps is None else overlaps
    matches = match_pairs(predicted, reference, overlaps)
    free = false_positives(predicted, reference, overlaps, matches)
    missed = [r for r, truth in enumerate(reference) if r not in matches and not truth.crowd]
    candidates = [
        (overlaps[p][r], p, r) for p in free for r in missed if overlaps[p][r] >= MATCH_IOU
    ]
    for _, p, r in sorted(candidates, key=lambda candidate: -candidate[0]):
        if r not in matches and p not in matches.values():
            matches[r] = p
    return [
        *((reference[r].label, predicted[p].label) for r, p in sorted(matches.items())),
        *((reference[r].label, NO_OBJECT) for r in missed if r not in matches),
        *((NO_OBJECT, predicted[p].label) for p in free if p not in matches.values()),
    ]


def closed_set_classes(references: Iterable[Sequence[str]]) -> frozenset[str]:
    """Return the classes of reference answers; empty unless they are short, few and recurring.

    `references` are all acceptable answers of each example; the most frequent one counts.
    """
    answers = [most_frequent(texts) for texts in references if texts]
    classes = frozenset(answers)
    closed = is_categorical(answers) and len(classes) <= MAX_CLOSED_SET_CLASSES
    return classes if closed and max(map(len, classes)) <= MAX_CLASS_NAME_LENGTH else frozenset()


def is_categorical(labels: Sequence[str]) -> bool:
    """Return whether labels are classes: at least two, recurring on average."""
    return 1 < len(set(labels)) <= len(labels) / MIN_MEAN_OCCURRENCES


def answer_label_pair(
    answer: str | None, references: Sequence[str], classes: frozenset[str]
) -> LabelPair:
    """Return the label pair of one example.

    An acceptable answer that is a class is its own reference. A malformed answer (None) has the
    label `NO_OBJECT`, any other answer that is no class `OTHER_LABELS`.
    """
    reference = most_frequent(references)
    if answer is None:
        return reference, NO_OBJECT
    if answer in references:
        return (answer, answer) if answer in classes else (reference, reference)
    return reference, answer if answer in classes else OTHER_LABELS


def most_frequent(references: Sequence[str]) -> str:
    """Return the most frequent reference, the first of equally frequent ones."""
    return Counter(references).most_common(1)[0][0]


def confusion_matrix(pair_counts: Counter[LabelPair], max_labels: int) -> ConfusionMatrix:
    """Return the confusion matrix of the `max_labels` labels that are confused most often.

    The counts of all other labels are summed under `OTHER_LABELS`.
    """
    confused, total = Counter[str](), Counter[str]()
    for pair, count in pair_counts.items():
        for label in pair:
            total[label] += count
            confused[label] += count * (pair[0] != pair[1])
    ranked = sorted(
        total.keys() - {NO_OBJECT, OTHER_LABELS}, key=lambda n: (-confused[n], -total[n], n)
    )
    kept = set(ranked[:max_labels])
    folded = Counter[LabelPair]()
    for (reference, predicted), count in pair_counts.items():
        folded[_fold_label(reference, kept), _fold_label(predicted, kept)] += count
    last = [label for label in (OTHER_LABELS, NO_OBJECT) if any(label in pair for pair in folded)]
    labels = (*sorted(kept, key=_natural_sort_key), *last)
    return ConfusionMatrix(
        labels, tuple(tuple(folded[row, column] for column in labels) for row in labels)
    )


def _fold_label(label: str, kept: set[str]) -> str:
    return label if label in kept or label == NO_OBJECT else OTHER_LABELS


def _natural_sort_key(label: str) -> tuple[int, str]:
    """Sort numbers as numbers: 2 before 10."""
    return (int(label), "") if label.isdecimal() and len(label) < 10 else (10**10, label)
