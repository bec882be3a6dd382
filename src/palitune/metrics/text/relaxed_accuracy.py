"""Relaxed accuracy: a number may be 5 % off, any other answer must match. The metric of ChartQA.

`relaxed_accuracy_pix2struct` follows pix2struct's `metrics.py`, which big_vision and others repeat:
both sides are read by Python's `float`, "5%" as 0.05, each for itself ("5" is not "5%"). Where both
are numbers and the reference is not zero, a relative error of at most 5 % is right; otherwise the
texts must be equal but for case. So "1,000" and "$5" are texts, "0.0" is not "0", "1_000" is 1000,
outer spaces are ignored around numbers only, and "nan" and "inf" are wrong even for themselves. The
rule was made for measured values: "2010" is right where "2100" is asked for.
"""

from collections.abc import Sequence

from palitune.metrics.base import MeanMetric, check_references

TOLERANCE = 0.05
"""Relative error up to which a number is right."""


def relaxed_accuracy(answer: str, references: Sequence[str]) -> float:
    """Return 1.0 where `answer` matches any reference, else 0.0.

    Raises ValueError where there is no reference.
    """
    check_references(references)
    return float(any(_is_match(answer, reference) for reference in references))


def _is_match(answer: str, reference: str) -> bool:
    found, wanted = _parse_number(answer), _parse_number(reference)
    if found is not None and wanted:
        return abs(found - wanted) / abs(wanted) <= TOLERANCE
    return answer.lower() == reference.lower()


def _parse_number(text: str) -> float | None:
    """Read a number or a percentage; None where it is neither."""
    try:
        return float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None


class RelaxedAccuracy(MeanMetric):
    def __init__(self) -> None:
        super().__init__("relaxed_accuracy_pix2struct")

    def score(self, answer: str, references: tuple[str, ...]) -> float:
        return relaxed_accuracy(answer, references)
