"""Exact match: 1 where the answer equals one of the references, else 0.

`exact_match` compares as is, as big_vision's `vqa.py` does for AI2D, GQA and NLVR2;
`exact_match_lower` lower-cases both sides first, as it does for OCR-VQA and RSVQA.
"""

from collections.abc import Sequence

from palitune.metrics.base import MeanMetric


def exact_match(answer: str, references: Sequence[str], *, lower: bool = False) -> float:
    """Return 1.0 where `answer` equals any reference, else 0.0; nothing is stripped."""
    if lower:
        answer, references = answer.lower(), [reference.lower() for reference in references]
    return float(answer in references)


class ExactMatch(MeanMetric):
    def __init__(self, name: str, *, lower: bool = False) -> None:
        super().__init__(name)
        self.lower = lower

    def score(self, answer: str, references: tuple[str, ...]) -> float:
        return exact_match(answer, references, lower=self.lower)
