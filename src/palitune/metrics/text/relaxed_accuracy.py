"""Relaxed accuracy: a number may be 5 % off, any other answer must match. The metric of ChartQA.

`relaxed_accuracy_pix2struct` follows pix2struct's `metrics.py`, which big_vision and others repeat:
both sides are parsed with Python's `float`, "5%" as 0.05, each independently ("5" is not "5%"). If
both are numbers and the reference is not zero, a relative error of at most 5 % is correct;
otherwise the texts must be equal except for case. So "1,000" and "$5" are texts, "0.0" is not "0",
"1_000" is 1000, outer spaces are ignored around numbers only, and "nan" and "inf" do not even match
themselves. The rule is meant for measured values: for the year "2100", "2010" counts as correct.
"""

from collections.abc import Sequence

from palitune.metrics.base import MeanMetric, check_references

TOLERANCE = 0.05
"""Largest relative error of a correct number."""


def relaxed_accuracy(answer: str, references: Sequence[str]) -> float:
    """Return 1.0 if `answer` matches any reference, else 0.0.

    Raises ValueError without references.
    """
    check_references(references)
    return float(any(_is_match(answer, reference) for reference in references))


def _is_match(answer: str, reference: str) -> bool:
    predicted, expected = _parse_number(answer), _parse_number(reference)
    if predicted is not None and expected:
        return abs(predicted - expected) / abs(expected) <= TOLERANCE
    return answer.lower() == reference.lower()


def _parse_number(text: str) -> float | None:
    """Parse a number or a percentage; return None for anything else."""
    try:
        return float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None


class RelaxedAccuracy(MeanMetric):
    def __init__(self) -> None:
        super().__init__("relaxed_accuracy_pix2struct")

    def score(self, answer: str, references: tuple[str, ...]) -> float:
        return relaxed_accuracy(answer, references)
