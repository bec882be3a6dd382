"""What was taken for what: the classes of objects, and the answers of a closed set.

Objects are paired as `detection_ap.match` pairs them, those of one label first; what is left over
is then paired whatever its label, the best IoU first, from IoU .5 on. So the diagonal holds the
objects that precision, recall and F1 at IoU .5 count as found.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from palitune.examples import Instance
from palitune.metrics.confidence import in_crowd
from palitune.metrics.matching import MATCH_IOU, Overlaps, box_overlaps, pairs

NOTHING = ""
"""Stands for no object: the prediction of a missed one, the reference of an invented one."""
OTHER = "\N{HORIZONTAL ELLIPSIS}"
"""Stands for all classes that a table has no room for, and for answers outside the closed set."""

MOST_ANSWERS = 30
"""Different reference answers up to which a set of answers is closed."""
LEAST_REPEATED = 3
"""How often, on average, the labels of references occur that are classes and not mere words."""
LONGEST_ANSWER = 40
"""Characters of an answer that can still be the name of a class."""

Pair = tuple[str, str]
"""(label of the reference, label of the prediction)."""


@dataclass(frozen=True)
class Table:
    """How often each label was taken for each."""

    labels: tuple[str, ...]
    """Rows and columns; `OTHER` and `NOTHING` last, where they occur."""
    counts: tuple[tuple[int, ...], ...]
    """By reference, then by prediction."""


def object_pairs(
    predicted: Sequence[Instance],
    reference: Sequence[Instance],
    overlaps: Overlaps | None = None,
) -> list[Pair]:
    """Pair the objects of one example; `overlaps` are those of the boxes if None.

    A crowd is in no pair, and neither is a prediction that lies in a crowd of its label.
    """
    overlaps = box_overlaps(predicted, reference) if overlaps is None else overlaps
    found = pairs(predicted, reference, overlaps)
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
    listed += [(reference[t].label, NOTHING) for t in missed if t not in found]
    return listed + [(NOTHING, predicted[g].label) for g in free if g not in found.values()]


def closed_set(references: Iterable[Sequence[str]]) -> frozenset[str]:
    """Return the classes that short, recurring reference answers are; none where they are not.

    `references` are all acceptable answers of each example, of which the most frequent one counts.
    """
    answers = [usual(texts) for texts in references if texts]
    classes = frozenset(answers)
    closed = recur(answers) and len(classes) <= MOST_ANSWERS
    return classes if closed and max(map(len, classes)) <= LONGEST_ANSWER else frozenset()


def recur(labels: Sequence[str]) -> bool:
    """Tell whether labels are classes: several, each met again and again."""
    return 1 < len(set(labels)) <= len(labels) / LEAST_REPEATED


def answer_pair(answer: str | None, references: Sequence[str], classes: frozenset[str]) -> Pair:
    """Return what the reference of one example was taken for.

    An acceptable answer is its own reference; None, a malformed one, is `NOTHING`, and one that is
    no class `OTHER`.
    """
    if answer is None:
        return usual(references), NOTHING
    if answer in references and answer in classes:
        return answer, answer
    if answer in references:
        return usual(references), usual(references)
    return usual(references), answer if answer in classes else OTHER


def usual(references: Sequence[str]) -> str:
    """Return the most frequent reference; of equally frequent ones, the first."""
    return Counter(references).most_common(1)[0][0]


def table(counted: Counter[Pair], most: int) -> Table:
    """Set out how often each pair occurs, for at most `most` labels: those most often confused.

    The counts of all other labels are added up under `OTHER`.
    """
    confused, met = Counter[str](), Counter[str]()
    for pair, count in counted.items():
        for label in pair:
            met[label] += count
            confused[label] += count * (pair[0] != pair[1])
    named = sorted(met.keys() - {NOTHING, OTHER}, key=lambda n: (-confused[n], -met[n], n))
    shown = set(named[:most])
    folded = Counter[Pair]()
    for (reference, predicted), count in counted.items():
        folded[_folded(reference, shown), _folded(predicted, shown)] += count
    last = [label for label in (OTHER, NOTHING) if any(label in pair for pair in folded)]
    labels = (*sorted(shown, key=_natural), *last)
    return Table(labels, tuple(tuple(folded[row, column] for column in labels) for row in labels))


def _folded(label: str, shown: set[str]) -> str:
    return label if label in shown or label == NOTHING else OTHER


def _natural(label: str) -> tuple[int, str]:
    """Sort numbers as numbers: 2 before 10."""
    return (int(label), "") if label.isdecimal() and len(label) < 10 else (10**10, label)
