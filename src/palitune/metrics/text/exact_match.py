"""Exact match: 1 if the answer equals one of the references, else 0.

`exact_match` compares the texts unchanged, as big_vision's `vqa.py` does for AI2D, GQA and NLVR2;
`exact_match_lower` lower-cases both sides first, as `vqa.py` does for OCR-VQA and RSVQA;
`exact_match_number` replaces a number word ("none", "zero" to "twenty", in any case) by the number
on both sides, as big_vision's `tallyqa.py` does for TallyQA and CountBenchQA.
"""

from collections.abc import Callable, Sequence

from palitune.metrics.base import MeanMetric

Normalizer = Callable[[str], str]
"""Maps texts that count as equal to the same text."""

_NUMBER_WORDS = """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
    sixteen seventeen eighteen nineteen twenty
"""
_DIGITS_BY_WORD = {word: str(number) for number, word in enumerate(_NUMBER_WORDS.split())} | {
    "none": "0"
}


def identity(text: str) -> str:
    """Return the text unchanged."""
    return text


def normalize_number(text: str) -> str:
    """Return the digits of a number word; any other text stays as it is."""
    return _DIGITS_BY_WORD.get(text.lower(), text)


def exact_match(
    answer: str, references: Sequence[str], *, normalize: Normalizer = identity
) -> float:
    """Return 1.0 if `answer` equals any reference, else 0.0; nothing is stripped.

    `normalize` is applied to both sides, e.g. `str.lower` or `normalize_number`.
    """
    return float(normalize(answer) in map(normalize, references))


class ExactMatch(MeanMetric):
    """Share of answers that equal a reference."""

    def __init__(self, name: str = "exact_match", normalize: Normalizer = identity) -> None:
        super().__init__(name)
        self.normalize = normalize

    def score(self, answer: str, references: tuple[str, ...]) -> float:
        return exact_match(answer, references, normalize=self.normalize)


class ExactMatchLower(ExactMatch):
    """Exact match of lower-cased texts."""

    def __init__(self) -> None:
        super().__init__("exact_match_lower", str.lower)


class ExactMatchNumber(ExactMatch):
    """Exact match of texts with number words replaced by digits."""

    def __init__(self) -> None:
        super().__init__("exact_match_number", normalize_number)
