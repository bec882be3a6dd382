"""Accuracies of benchmarks that prescribe the form of an answer: ScienceQA, POPE, RSVQA.

`science_qa` follows big_vision's `science_qa.py`: the lower-cased output must begin with "the
answer is X." and only the letter X is compared. `science_qa_valid` is the share that does.
`pope` follows its `pope.py`: equality of the lower-cased texts; `pope_valid` is the share of
outputs that are yes or no. POPE's own number is the mean over its three splits of equal size.
`rsvqa` follows its `rsvqa.py`: equality of the lower-cased texts, over all questions and as the
mean over the question types, each weighing the same. Examples name theirs in the attribute
`question_type` (`data.attributes=[question_type]`); which types are in is for the data to choose:
the published mean leaves out counts and areas.
"""

import re
from abc import abstractmethod

import numpy as np

from palitune.errors import DataError
from palitune.metrics.base import (
    FloatArray,
    Metric,
    ResampleCounts,
    answer_text,
    ratio,
    reference_texts,
    weighted_mean,
)
from palitune.metrics.text.exact_match import exact_match
from palitune.records import Example, Prediction

QUESTION_TYPE_ATTRIBUTE = "question_type"
_ANSWER_LETTER = re.compile(r"the answer is ([a-z])\.")


def science_qa_letter(text: str) -> str | None:
    """Return the letter that a ScienceQA answer names, in lower case; None where it names none."""
    found = _ANSWER_LETTER.match(text.lower())
    return found[1] if found else None


class ValidatedAccuracy(Metric):
    """Accuracy beside the share of answers that have the prescribed form."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.scores: list[tuple[float, float]] = []
        """(right, valid), each 0 or 1, of every example."""

    @abstractmethod
    def score(self, answer: str, references: tuple[str, ...]) -> tuple[bool, bool]:
        """Tell whether the answer is right, and whether it has the prescribed form."""

    def update(self, example: Example, prediction: Prediction) -> dict[str, float]:
        right, valid = self.score(answer_text(prediction), reference_texts(example))
        self.scores.append((float(right), float(valid)))
        return dict(zip(self._metric_names(), self.scores[-1], strict=True))

    def compute(self) -> dict[str, float]:
        numbers = self.compute_weighted(np.ones((1, len(self.scores))))
        return {name: float(values[0]) for name, values in numbers.items()}

    def compute_weighted(self, counts: ResampleCounts) -> dict[str, FloatArray]:
        columns = np.array(self.scores, float).reshape(-1, 2).T
        return {
            name: weighted_mean(counts, column)
            for name, column in zip(self._metric_names(), columns, strict=True)
        }

    def _metric_names(self) -> tuple[str, str]:
        return f"{self.name}_accuracy", f"{self.name}_valid"


class ScienceQa(ValidatedAccuracy):
    def __init__(self) -> None:
        super().__init__("science_qa")

    def score(self, answer: str, references: tuple[str, ...]) -> tuple[bool, bool]:
        letter = science_qa_letter(answer)
        return letter is not None and letter in map(science_qa_letter, references), bool(letter)


class Pope(ValidatedAccuracy):
    def __init__(self) -> None:
        super().__init__("pope")

    def score(self, answer: str, references: tuple[str, ...]) -> tuple[bool, bool]:
        right = exact_match(answer, references, normalize=str.lower)
        return bool(right), answer.lower() in ("yes", "no")


class Rsvqa(Metric):
    """Report `rsvqa_mean` over question types, and `rsvqa_overall` over questions."""

    def __init__(self) -> None:
        self.typed_scores: list[tuple[str, float]] = []
        """(question type, score) of every example."""

    def update(self, example: Example, prediction: Prediction) -> dict[str, float]:
        if QUESTION_TYPE_ATTRIBUTE not in example.attributes:
            raise DataError(
                f"{example.location}: metric rsvqa needs the attribute '{QUESTION_TYPE_ATTRIBUTE}'; take it "
                f"from a column of the data with data.attributes=[{QUESTION_TYPE_ATTRIBUTE}]"
            )
        score = exact_match(answer_text(prediction), reference_texts(example), normalize=str.lower)
        self.typed_scores.append((example.attributes[QUESTION_TYPE_ATTRIBUTE], score))
        return {"rsvqa_overall": score}

    def compute(self) -> dict[str, float]:
        numbers = self.compute_weighted(np.ones((1, len(self.typed_scores))))
        return {name: float(values[0]) for name, values in numbers.items()}

    def compute_weighted(self, counts: ResampleCounts) -> dict[str, FloatArray]:
        types = sorted({kind for kind, _ in self.typed_scores})
        of_type = np.array([[kind == one for one in types] for kind, _ in self.typed_scores], float)
        of_type = of_type.reshape(len(self.typed_scores), len(types))
        scores = np.array([score for _, score in self.typed_scores])
        by_type = ratio(counts @ (of_type * scores[:, None]), counts @ of_type)
        known = ~np.isnan(by_type)
        mean = ratio(np.nansum(by_type, axis=1), known.sum(axis=1).astype(float))
        return {"rsvqa_mean": mean, "rsvqa_overall": weighted_mean(counts, scores)}
