"""Accuracies of benchmarks that prescribe the form of an answer: ScienceQA, POPE, RSVQA.

`science_qa` follows big_vision's `science_qa.py`: the lower-cased output must begin with "the
answer is X." and only the letter X is compared. `science_qa_valid` is the share of outputs with
this beginning.
`pope` follows big_vision's `pope.py`: equality of the lower-cased texts; `pope_valid` is the share
of outputs that are yes or no. POPE's published value is the mean over its three splits of equal
size.
`rsvqa` follows big_vision's `rsvqa.py`: equality of the lower-cased texts, over all questions and
as the mean over the question types with equal weights. The type of an example is its attribute
`question_type` (`data.attributes=[question_type]`), and the data decides which types it contains:
the published mean excludes counts and areas.
"""

import re
from typing import ClassVar

import numpy as np

from palitune.errors import DataError
from palitune.metrics.base import (
    FloatArray,
    ResampleCounts,
    SeveralMeansMetric,
    SummedMetric,
    answer_text,
    mean_of_defined,
    ratio,
    reference_texts,
    weighted_mean,
)
from palitune.metrics.text.exact_match import exact_match
from palitune.records import Example, Prediction

QUESTION_TYPE_ATTRIBUTE = "question_type"
_ANSWER_LETTER = re.compile(r"the answer is ([a-z])\.")


def science_qa_letter(text: str) -> str | None:
    """Return the letter of a ScienceQA answer in lower case; None for another form of answer."""
    match = _ANSWER_LETTER.match(text.lower())
    return match[1] if match else None


class ValidatedAccuracy(SeveralMeansMetric):
    """Accuracy, and the share of answers that have the prescribed form."""

    num_statistics: ClassVar[int] = 2

    def __init__(self, name: str) -> None:
        super().__init__()
        self.names = (f"{name}_accuracy", f"{name}_valid")


class ScienceQa(ValidatedAccuracy):
    def __init__(self) -> None:
        super().__init__("science_qa")

    def scores(self, answer: str, references: tuple[str, ...]) -> tuple[float, ...]:
        letter = science_qa_letter(answer)
        if letter is None:
            return 0.0, 0.0
        return float(letter in map(science_qa_letter, references)), 1.0


class Pope(ValidatedAccuracy):
    def __init__(self) -> None:
        super().__init__("pope")

    def scores(self, answer: str, references: tuple[str, ...]) -> tuple[float, ...]:
        correct = exact_match(answer, references, normalize=str.lower)
        return correct, float(answer.lower() in ("yes", "no"))


class Rsvqa(SummedMetric):
    """Accuracy as mean over question types, `rsvqa_mean`, and over questions, `rsvqa_overall`."""

    num_statistics: ClassVar[int] = 1

    def __init__(self) -> None:
        super().__init__()
        self.question_types: list[str] = []

    def update(self, example: Example, prediction: Prediction) -> dict[str, float]:
        if QUESTION_TYPE_ATTRIBUTE not in example.attributes:
            raise DataError(
                f"{example.location}: metric rsvqa requires the attribute "
                f"'{QUESTION_TYPE_ATTRIBUTE}'. Read it from a column of the data with "
                f"data.attributes=[{QUESTION_TYPE_ATTRIBUTE}]."
            )
        score = exact_match(answer_text(prediction), reference_texts(example), normalize=str.lower)
        self.question_types.append(example.attributes[QUESTION_TYPE_ATTRIBUTE])
        self.statistics.append((score,))
        return {"rsvqa_overall": score}

    def compute_weighted(self, counts: ResampleCounts) -> dict[str, FloatArray]:
        types = np.array(sorted(set(self.question_types)), dtype=str)
        has_type = np.array(self.question_types, dtype=str)[:, None] == types
        scores = self.columns()[0]
        by_type = ratio(counts @ (has_type * scores[:, None]), counts @ has_type.astype(float))
        return {
            "rsvqa_mean": mean_of_defined(by_type, axis=1),
            "rsvqa_overall": weighted_mean(counts, scores),
        }
