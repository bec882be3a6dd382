"""Exact match: 1 where the answer equals one of the references, else 0.

`exact_match` compares as is, as big_vision's `vqa.py` does for AI2D, GQA and NLVR2;
`exact_match_lower` lower-cases both sides first, as it does for OCR-VQA and RSVQA;
`exact_match_number` reads both sides that are a number word ("none", "zero" to "twenty", whatever
the case) as the number, as its `tallyqa.py` does for TallyQA and CountBenchQA.
"""

from collections.abc import Callable, Sequence

from palitune.metrics.base import MeanMetric

Normalizer = Callable[[str], str]
"""Writes texts that count as equal in the same way."""

_NUMBER_WORDS = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen
    fifteen sixteen seventeen eighteen nineteen twenty"""
_DIGITS_BY_WORD = {word: str(number) for number, word in enumerate(_NUMBER_WORDS.split())} | {
    "none": "0"
}


def identity(text: str) -> str:
    """Leave a text alone."""
    return text


def normalize_number(text: str) -> str:
    """Write a number word as its digits; any other text, and one with more to it, stays."""
    return _DIGITS_BY_WORD.get(text.lower(), text)


def exact_match(
    answer: str, references: Sequence[str], *, normalize: Normalizer = identity
) -> float:
    """Return 1.0 where `answer` equals any reference, else 0.0; nothing is stripped.

    `normal` is applied to both sides: `str.lower`, `exact_match.number`, or one of your own.
    """
    return float(normalize(answer) in map(normalize, references))


class ExactMatch(MeanMetric):
    """The share of answers that equal a reference."""

    def __init__(self, name: str = "exact_match", normalize: Normalizer = identity) -> None:
        super().__init__(name)
        self.normalize = normalize

    def score(self, answer: str, references: tuple[str, ...]) -> float:
        return exact_match(answer, references, normalize=self.normalize)


class ExactMatchLower(ExactMatch):
    """The same of lower-cased texts."""

    def __init__(self) -> None:
        super().__init__("exact_match_lower", str.lower)


class ExactMatchNumber(ExactMatch):
    """The same of texts whose number words are digits."""

    def __init__(self) -> None:
        super().__init__("exact_match_number", normalize_number)
