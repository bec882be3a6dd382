"""ANLS: average normalized Levenshtein similarity, the metric of DocVQA, InfoVQA and ST-VQA.

`anls_rrc` follows the evaluation script of the Robust Reading Competition, which computes the
public leaderboards: both sides are lower-cased and their white space is collapsed before edits are
counted, but the edits are divided by the length of the raw strings in upper case (so outer spaces
count, and "ß" counts two), and a similarity of exactly 0.5 is kept.
`anls_paper` follows the formula of the papers as big_vision's `vqa.py` does: both sides are only
lower-cased, exactly 0.5 scores 0, and only an empty answer matches an empty reference.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Literal

from palitune.metrics.base import MeanMetric, check_references

AnlsVariant = Literal["rrc", "paper"]

SIMILARITY_THRESHOLD = 0.5
"""Similarity below which an answer scores 0: another answer rather than a misspelled one."""


def anls(answer: str, references: Sequence[str], *, variant: AnlsVariant = "rrc") -> float:
    """Return the similarity in [0, 1] of `answer` to the nearest reference.

    Raises ValueError without references and for an unknown variant.
    """
    check_references(references)
    if variant == "rrc":
        return max(_rrc_similarity(answer, reference) for reference in references)
    if variant == "paper":
        return max(_paper_similarity(answer.lower(), reference.lower()) for reference in references)
    raise ValueError(f"variant {variant!r} is not one of rrc, paper")


def _rrc_similarity(answer: str, reference: str) -> float:
    length = max(len(answer.upper()), len(reference.upper()))
    edits = _levenshtein()(" ".join(answer.lower().split()), " ".join(reference.lower().split()))
    similarity = 1.0 - (edits / length if length else 0.0)
    return similarity if similarity >= SIMILARITY_THRESHOLD else 0.0


def _paper_similarity(answer: str, reference: str) -> float:
    if not reference:
        return float(not answer)
    distance = _levenshtein()(answer, reference) / max(len(answer), len(reference))
    return 1.0 - distance if distance < 1.0 - SIMILARITY_THRESHOLD else 0.0


@cache
def _levenshtein() -> Callable[[str, str], int]:
    from rapidfuzz.distance import Levenshtein

    return Levenshtein.distance


class Anls(MeanMetric):
    def __init__(self, variant: AnlsVariant) -> None:
        super().__init__(f"anls_{variant}")
        self.variant = variant

    def score(self, answer: str, references: tuple[str, ...]) -> float:
        return anls(answer, references, variant=self.variant)
