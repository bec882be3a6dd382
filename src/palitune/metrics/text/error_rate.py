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

from palitune.metrics.base import (
    FloatArray,
    Metric,
    ResampleCounts,
    answer_text,
    check_references,
    reference_texts,
)
from palitune.records import Example, Prediction

SplitFn = Callable[[str], Sequence[str]]
"""Splits a text into what edits are counted in."""

_WHITESPACE_RUN = re.compile(r"\s\s+")


def split_characters(text: str) -> str:
    """Strip outer white space: what character edits are counted in."""
    return text.strip()


def split_words(text: str) -> list[str]:
    """Split at spaces as jiwer does: what word edits are counted in."""
    return [word for word in _WHITESPACE_RUN.sub(" ", text).strip().split(" ") if word]


def character_error_rate(
    hypotheses: Sequence[str], references: Sequence[str | Sequence[str]]
) -> float:
    """Return character edits / reference characters over all examples; NaN where there is none.

    Each entry of `references` is one text, or several acceptable ones.
    """
    return _corpus_error_rate(hypotheses, references, split_characters)


def word_error_rate(hypotheses: Sequence[str], references: Sequence[str | Sequence[str]]) -> float:
    """Return word edits / reference words over all examples; NaN where there is none.

    Each entry of `references` is one text, or several acceptable ones.
    """
    return _corpus_error_rate(hypotheses, references, split_words)


def _corpus_error_rate(
    hypotheses: Sequence[str], references: Sequence[str | Sequence[str]], split: SplitFn
) -> float:
    if len(hypotheses) != len(references):
        raise ValueError(
            f"{len(hypotheses)} hypotheses meet {len(references)} references; give one entry of "
            "references per hypothesis"
        )
    pairs = zip(hypotheses, references, strict=True)
    return _error_rate(
        _count_edits(hypothesis, (texts,) if isinstance(texts, str) else texts, split)
        for hypothesis, texts in pairs
    )


def _count_edits(hypothesis: str, references: Sequence[str], split: SplitFn) -> tuple[int, int]:
    """Return (edits, reference length) for the nearest reference; of equals, the longest."""
    from rapidfuzz.distance import Levenshtein

    check_references(references)
    predicted = split(hypothesis)
    targets = [split(reference) for reference in references]
    counts = [(Levenshtein.distance(predicted, target), len(target)) for target in targets]
    return min(counts, key=lambda count: (count[0], -count[1]))


def _error_rate(counts: Iterable[tuple[int, int]]) -> float:
    counted = list(counts)
    if not counted:
        return float("nan")
    edits, length = (sum(column) for column in zip(*counted, strict=True))
    return edits / length if length else float(edits)


class ErrorRate(Metric):
    """Score each example by its own rate; the corpus number weighs examples by their length."""

    def __init__(self, name: str, split: SplitFn) -> None:
        self.name = name
        self.split = split
        self.edit_counts: list[tuple[int, int]] = []

    def update(self, example: Example, prediction: Prediction) -> dict[str, float]:
        self.edit_counts.append(
            _count_edits(answer_text(prediction), reference_texts(example), self.split)
        )
        return {self.name: _error_rate(self.edit_counts[-1:])}

    def compute(self) -> dict[str, float]:
        return {self.name: _error_rate(self.edit_counts)}

    def compute_weighted(self, counts: ResampleCounts) -> dict[str, FloatArray]:
        edits, lengths = (counts @ np.array(self.edit_counts, float).reshape(-1, 2)).T
        rates: FloatArray = edits / np.where(lengths > 0, lengths, 1)
        return {self.name: np.where(counts.sum(axis=1) > 0, rates, np.nan)}


class CharacterErrorRate(ErrorRate):
    """Edits in characters."""

    def __init__(self) -> None:
        super().__init__("character_error_rate", split_characters)


class WordErrorRate(ErrorRate):
    """Edits in words."""

    def __init__(self) -> None:
        super().__init__("word_error_rate", split_words)
