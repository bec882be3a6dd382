"""Character and word error rate over a corpus: sum of edits / sum of reference lengths.

Equal to jiwer (4.0) for one reference each: texts are stripped, and for words two or more white
space characters count as one space. As in jiwer, only spaces separate words (a single line break or
tab does not), a rate may exceed 1, and if the references are empty the rate is the number of
insertions. This differs from the mean of per-example rates, in which short texts weigh as much as
long ones. If an example has several references, the one with the fewest edits counts.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar

import numpy as np

from palitune.metrics.base import (
    FloatArray,
    ResampleCounts,
    SummedMetric,
    answer_text,
    check_references,
    reference_texts,
)
from palitune.records import Example, Prediction

SplitFn = Callable[[str], Sequence[str]]
"""Splits a text into the units in which edits are counted."""

_WHITESPACE_RUN = re.compile(r"\s\s+")


def split_words(text: str) -> list[str]:
    """Split at spaces, as jiwer does."""
    return [word for word in _WHITESPACE_RUN.sub(" ", text).strip().split(" ") if word]


def character_error_rate(
    hypotheses: Sequence[str], references: Sequence[str | Sequence[str]]
) -> float:
    """Return character edits / reference characters over all examples; NaN without examples.

    Each entry of `references` is one text, or several acceptable ones.
    """
    return _corpus_error_rate(hypotheses, references, str.strip)


def word_error_rate(hypotheses: Sequence[str], references: Sequence[str | Sequence[str]]) -> float:
    """Return word edits / reference words over all examples; NaN without examples.

    Each entry of `references` is one text, or several acceptable ones.
    """
    return _corpus_error_rate(hypotheses, references, split_words)


def _corpus_error_rate(
    hypotheses: Sequence[str], references: Sequence[str | Sequence[str]], split: SplitFn
) -> float:
    if len(hypotheses) != len(references):
        raise ValueError(
            f"{len(hypotheses)} hypotheses but {len(references)} references; provide one entry of "
            "references per hypothesis"
        )
    return _error_rate(
        _count_edits(hypothesis, (texts,) if isinstance(texts, str) else texts, split)
        for hypothesis, texts in zip(hypotheses, references, strict=True)
    )


def _count_edits(hypothesis: str, references: Sequence[str], split: SplitFn) -> tuple[int, int]:
    """Return (edits, reference length) for the nearest reference, the longest of equally near."""
    from rapidfuzz.distance import Levenshtein

    check_references(references)
    predicted = split(hypothesis)
    targets = [split(reference) for reference in references]
    counts = [(Levenshtein.distance(predicted, target), len(target)) for target in targets]
    return min(counts, key=lambda count: (count[0], -count[1]))


def _error_rate(counts: Iterable[tuple[int, int]]) -> float:
    pairs = list(counts)
    if not pairs:
        return float("nan")
    return sum(edits for edits, _ in pairs) / (sum(length for _, length in pairs) or 1)


class ErrorRate(SummedMetric):
    """Error rate of the corpus, which weighs examples by their length, and of each example."""

    num_statistics: ClassVar[int] = 2

    def __init__(self, name: str, split: SplitFn) -> None:
        super().__init__()
        self.name = name
        self.split = split

    def update(self, example: Example, prediction: Prediction) -> dict[str, float]:
        counts = _count_edits(answer_text(prediction), reference_texts(example), self.split)
        self.statistics.append(counts)
        return {self.name: _error_rate([counts])}

    def compute_weighted(self, counts: ResampleCounts) -> dict[str, FloatArray]:
        edits, lengths = self.sums(counts)
        rates: FloatArray = edits / np.where(lengths > 0, lengths, 1)
        return {self.name: np.where(counts.sum(axis=1) > 0, rates, np.nan)}


class CharacterErrorRate(ErrorRate):
    """Edits in characters."""

    def __init__(self) -> None:
        super().__init__("character_error_rate", str.strip)


class WordErrorRate(ErrorRate):
    """Edits in words."""

    def __init__(self) -> None:
        super().__init__("word_error_rate", split_words)
