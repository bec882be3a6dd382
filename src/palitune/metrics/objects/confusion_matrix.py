"""What was taken for what: the classes of objects, and the answers of a closed set.

Objects are paired as `detection_ap.match` pairs them, those of one label first; what is left over
is then paired whatever its label, the best IoU first, from IoU .5 on. So the diagonal holds the
objects that precision, recall and F1 at IoU .5 count as found.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from palitune.metrics.objects.calibration import in_crowd
from palitune.metrics.objects.matching import MATCH_IOU, Overlaps, box_overlaps, match_pairs
from palitune.records import Instance

NO_OBJECT = ""
"""Stands for no object: the prediction of a missed one, the reference of an invented one."""
OTHER_LABELS = "\N{HORIZONTAL ELLIPSIS}"
"""Stands for all classes that a table has no room for, and for answers outside the closed set."""

MAX_CLOSED_SET_CLASSES = 30
"""Different reference answers up to which a set of answers is closed."""
MIN_MEAN_OCCURRENCES = 3
"""How often, on average, the labels of references occur that are classes and not mere words."""
MAX_CLASS_NAME_LENGTH = 40
"""Characters of an answer that can still be the name of a class."""

LabelPair = tuple[str, str]
"""(label of the reference, label of the prediction)."""


@dataclass(frozen=True)
class ConfusionMatrix:
    """How often each label was taken for each."""

    labels: tuple[str, ...]
    """Rows and columns; `OTHER` and `NOTHING` last, where they occur."""
    counts: tuple[tuple[int, ...], ...]
    """By reference, then by prediction."""


def object_label_pairs(
    predicted: Sequence[Instance],
    reference: Sequence[Instance],
    overlaps: Overlaps | None = None,
) -> list[LabelPair]:
    """Pair the objects of one example; `overlaps` are those of the boxes if None.

    A crowd is in no pair, and neither is a prediction that lies in a crowd of its label.
    """
    overlaps = box_overlaps(predicted, reference) if overlaps is None else overlaps
    found = match_pairs(predicted, reference, overlaps)
    free = [
        g
        for g, guess in enumerate(predicted)
        if g not in found.values() and not in_crowd(guess, reference, overlaps[g])
    ]
    missed = [t for t, truth in enumerate(reference) if t not in found and not truth.crowd]
    near = [(overlaps[g][t], g, t) for g in free for t in missed if overlaps[g][t] >= MATCH_IOU]
    for _, guess, truth in sorted(near, key=lambda candidate: -candidate[0]):
        if truth not in found and guess not in found.values():
            found[truth] = guess
    listed = [(reference[t].label, predicted[g].label) for t, g in sorted(found.items())]
    listed += [(reference[t].label, NO_OBJECT) for t in missed if t not in found]
    return listed + [(NO_OBJECT, predicted[g].label) for g in free if g not in found.values()]


def closed_set_classes(references: Iterable[Sequence[str]]) -> frozenset[str]:
    """Return the classes that short, recurring reference answers are; none where they are not.

    `references` are all acceptable answers of each example, of which the most frequent one counts.
    """
    answers = [most_frequent(texts) for texts in references if texts]
    classes = frozenset(answers)
    closed = is_categorical(answers) and len(classes) <= MAX_CLOSED_SET_CLASSES
    return classes if closed and max(map(len, classes)) <= MAX_CLASS_NAME_LENGTH else frozenset()


def is_categorical(labels: Sequence[str]) -> bool:
    """Tell whether labels are classes: several, each met again and again."""
    return 1 < len(set(labels)) <= len(labels) / MIN_MEAN_OCCURRENCES


def answer_label_pair(
    answer: str | None, references: Sequence[str], classes: frozenset[str]
) -> LabelPair:
    """Return what the reference of one example was taken for.

    An acceptable answer is its own reference; None, a malformed one, is `NOTHING`, and one that is
    no class `OTHER`.
    """
    if answer is None:
        return most_frequent(references), NO_OBJECT
    if answer in references and answer in classes:
        return answer, answer
    if answer in references:
        return most_frequent(references), most_frequent(references)
    return most_frequent(references), answer if answer in classes else OTHER_LABELS


def most_frequent(references: Sequence[str]) -> str:
    """Return the most frequent reference; of equally frequent ones, the first."""
    return Counter(references).most_common(1)[0][0]


def confusion_matrix(pair_counts: Counter[LabelPair], max_labels: int) -> ConfusionMatrix:
    """Set out how often each pair occurs, for at most `most` labels: those most often confused.

    The counts of all other labels are added up under `OTHER`.
    """
    confused, met = Counter[str](), Counter[str]()
    for pair, count in pair_counts.items():
        for label in pair:
            met[label] += count
            confused[label] += count * (pair[0] != pair[1])
    named = sorted(met.keys() - {NO_OBJECT, OTHER_LABELS}, key=lambda n: (-confused[n], -met[n], n))
    shown = set(named[:max_labels])
    folded = Counter[LabelPair]()
    for (reference, predicted), count in pair_counts.items():
        folded[_fold_label(reference, shown), _fold_label(predicted, shown)] += count
    last = [label for label in (OTHER_LABELS, NO_OBJECT) if any(label in pair for pair in folded)]
    labels = (*sorted(shown, key=_natural_sort_key), *last)
    return ConfusionMatrix(
        labels, tuple(tuple(folded[row, column] for column in labels) for row in labels)
    )


def _fold_label(label: str, kept: set[str]) -> str:
    return label if label in kept or label == NO_OBJECT else OTHER_LABELS


def _natural_sort_key(label: str) -> tuple[int, str]:
    """Sort numbers as numbers: 2 before 10."""
    return (int(label), "") if label.isdecimal() and len(label) < 10 else (10**10, label)
