"""Character and word error rate over a corpus: sum of edits / sum of reference lengths.

Equal to jiwer (4.0) for one reference each: texts are stripped, and for words two or more white
characters count as one space. As there, only spaces part words (a lone line break or tab does not),
a rate may exceed 1, and where the references hold nothing the rate is the number of insertions.
This is not the mean of the rates of the examples, in which short texts weigh as much as long ones.
Where an example has several references, the one with the fewest edits counts.
"""

import re
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from palitune.examples import Example, Prediction
from palitune.metrics.base import Counts, Floats, Metric, answer_of, check_references, references_of

Units = Callable[[str], Sequence[str]]
"""Splits a text into what edits are counted in."""

_WHITE = re.compile(r"\s\s+")


def characters(text: str) -> str:
    """Strip outer white space: what character edits are counted in."""
    return text.strip()


def words(text: str) -> list[str]:
    """Split at spaces as jiwer does: what word edits are counted in."""
    return [word for word in _WHITE.sub(" ", text).strip().split(" ") if word]


def character_error_rate(
    hypotheses: Sequence[str], references: Sequence[str | Sequence[str]]
) -> float:
    """Return character edits / reference characters over all examples; NaN where there is none.

    Each entry of `references` is one text, or several acceptable ones.
    """
    return _corpus_rate(hypotheses, references, characters)


def word_error_rate(hypotheses: Sequence[str], references: Sequence[str | Sequence[str]]) -> float:
    """Return word edits / reference words over all examples; NaN where there is none.

    Each entry of `references` is one text, or several acceptable ones.
    """
    return _corpus_rate(hypotheses, references, words)


def _corpus_rate(
    hypotheses: Sequence[str], references: Sequence[str | Sequence[str]], units: Units
) -> float:
    if len(hypotheses) != len(references):
        raise ValueError(
            f"{len(hypotheses)} hypotheses meet {len(references)} references; give one entry of "
            "references per hypothesis"
        )
    pairs = zip(hypotheses, references, strict=True)
    return _rate(
        _edits(hypothesis, (texts,) if isinstance(texts, str) else texts, units)
        for hypothesis, texts in pairs
    )


def _edits(hypothesis: str, references: Sequence[str], units: Units) -> tuple[int, int]:
    """Return (edits, reference length) for the nearest reference; of equals, the longest."""
    from rapidfuzz.distance import Levenshtein

    check_references(references)
    predicted = units(hypothesis)
    targets = [units(reference) for reference in references]
    counts = [(Levenshtein.distance(predicted, target), len(target)) for target in targets]
    return min(counts, key=lambda count: (count[0], -count[1]))


def _rate(counts: Iterable[tuple[int, int]]) -> float:
    counted = list(counts)
    if not counted:
        return float("nan")
    edits, length = (sum(column) for column in zip(*counted, strict=True))
    return edits / length if length else float(edits)


class ErrorRate(Metric):
    """Score each example by its own rate; the corpus number weighs examples by their length."""

    def __init__(self, name: str, units: Units) -> None:
        self.name = name
        self.units = units
        self.counts: list[tuple[int, int]] = []

    def update(self, example: Example, prediction: Prediction) -> dict[str, float]:
        self.counts.append(_edits(answer_of(prediction), references_of(example), self.units))
        return {self.name: _rate(self.counts[-1:])}

    def compute(self) -> dict[str, float]:
        return {self.name: _rate(self.counts)}

    def weighted(self, counts: Counts) -> dict[str, Floats]:
        edits, lengths = (counts @ np.array(self.counts, float).reshape(-1, 2)).T
        rates: Floats = edits / np.where(lengths > 0, lengths, 1)
        return {self.name: np.where(counts.sum(axis=1) > 0, rates, np.nan)}


class CharacterErrorRate(ErrorRate):
    """Edits in characters."""

    def __init__(self) -> None:
        super().__init__("character_error_rate", characters)


class WordErrorRate(ErrorRate):
    """Edits in words."""

    def __init__(self) -> None:
        super().__init__("word_error_rate", words)
