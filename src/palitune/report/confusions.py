"""What each part of a run confuses: a table of classes, and its largest entries."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from palitune.metrics.confusion import (
    NOTHING,
    OTHER,
    Pair,
    Table,
    answer_pair,
    closed_set,
    object_pairs,
    recur,
    table,
)
from palitune.report.run_folder import Judged, objects
from palitune.report.score_plots import overlaps

MOST_CLASSES = 16
"""Classes with a row of their own."""
LISTED = 8
"""Confusions listed by name, and as many objects missed or invented."""

Listed = tuple[tuple[Pair, int, float], ...]
"""(reference and prediction, how often, as a share of the reference), the largest first."""


@dataclass(frozen=True)
class Confusion:
    part: str
    of_objects: bool
    table: Table
    swapped: Listed
    """Two classes confused."""
    lone: Listed
    """What was missed, invented or malformed."""

    @property
    def lists(self) -> list[tuple[str, Listed]]:
        """Both lists under what they are called; only those that hold anything."""
        lone = "missed and invented" if self.of_objects else "malformed"
        named = [("largest confusions", self.swapped), (lone, self.lone)]
        return [(name, listed) for name, listed in named if listed]

    def name(self, label: str, *, reference: bool) -> str:
        """Write a label as a heading; what stands for no object or for other classes in words."""
        if label == OTHER:
            return "other"
        if label != NOTHING:
            return label
        if self.of_objects:
            return "nothing there" if reference else "missed"
        return "malformed"

    def share(self, row: int, column: int) -> float:
        """How much of a row an entry is."""
        return self.table.counts[row][column] / max(1, sum(self.table.counts[row]))

    def is_right(self, row: int, column: int) -> bool:
        return row == column and self.table.labels[row] not in (NOTHING, OTHER)


def pairs_of(part: Sequence[Judged]) -> list[list[Pair]]:
    """Tell for each example what was taken for what; nothing where a part has no classes."""
    if all(example.draws_boxes for example in part):
        labels = [item.label for example in part for item in objects(example.reference)]
        if not recur(labels):
            return [[] for _ in part]
        return [
            object_pairs(
                objects(example.after.value),
                objects(example.reference),
                overlaps(example, example.after),
            )
            for example in part
        ]
    references = [[t for t in example.reference if isinstance(t, str)] for example in part]
    classes = closed_set(references)
    if not classes:
        return [[] for _ in part]
    return [
        [answer_pair(_text(example), texts, classes)] if texts else []
        for example, texts in zip(part, references, strict=True)
    ]


def confusion(part: str, examples: Sequence[Judged], pairs: Sequence[list[Pair]]) -> Confusion:
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
    return Confusion(
        part=part,
        of_objects=all(example.draws_boxes for example in examples),
        table=table(counted, MOST_CLASSES),
        swapped=tuple(entry for entry in wrong if NOTHING not in entry[0])[:LISTED],
        lone=tuple(entry for entry in wrong if NOTHING in entry[0])[:LISTED],
    )


def _text(example: Judged) -> str | None:
    return example.after.value if isinstance(example.after.value, str) else None
