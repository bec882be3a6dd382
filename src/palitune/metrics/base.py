"""What every metric is: a per-example score on update, corpus numbers on compute."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from palitune.records import Example, Instance, Prediction, Reference, Value

FloatArray = npt.NDArray[np.float64]
ResampleCounts = npt.NDArray[np.float64]
"""(corpora, examples): how often each example, in the order of update, stands in each corpus."""


class Metric(ABC):
    """Accumulate predictions; a malformed one (`value is None`) scores as an empty answer."""

    @abstractmethod
    def update(self, example: Example, prediction: Prediction) -> dict[str, float]:
        """Take in one example and return its own scores, for `predictions.jsonl` and the report."""

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """Return the corpus numbers by name; an empty corpus gives NaN, never 0."""

    def per_example_scores(self) -> list[dict[str, float]]:
        """Return the scores of every example where they need the whole corpus, else nothing.

        They are in the order of update, which then returned none.
        """
        return []

    def compute_weighted(self, counts: ResampleCounts) -> dict[str, FloatArray]:
        """Return the numbers of other corpora made of the same examples, (corpora,) by name.

        That is what intervals (examples drawn anew) and slices (some examples only) need; it reads
        what `update` kept and judges no answer again. A number that cannot be had so is missing.
        """
        return {}

    def compute_slices(self) -> dict[str, dict[str, dict[str, float]]]:
        """Return numbers by attribute and value where a slice is less than whole examples.

        An image holds objects of several classes; `examples` among the numbers is how many
        examples the value occurs in.
        """
        return {}


class MeanMetric(Metric):
    """A metric whose corpus number is the mean of its per-example scores."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.scores: list[float] = []

    @abstractmethod
    def score(self, answer: str, references: tuple[str, ...]) -> float:
        """Judge one answer against all acceptable ones."""

    def update(self, example: Example, prediction: Prediction) -> dict[str, float]:
        self.scores.append(self.score(answer_text(prediction), reference_texts(example)))
        return {self.name: self.scores[-1]}

    def compute(self) -> dict[str, float]:
        mean = sum(self.scores) / len(self.scores) if self.scores else float("nan")
        return {self.name: mean}

    def compute_weighted(self, counts: ResampleCounts) -> dict[str, FloatArray]:
        return {self.name: weighted_mean(counts, self.scores)}


class CorpusMeanMetric(Metric):
    """A metric whose corpus number is the mean of scores that need the whole corpus.

    `weighted` leaves the scores as they are, so what they take from the corpus stays fixed.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.answers: list[str] = []
        self.references: list[tuple[str, ...]] = []
        self._cached_scores: list[float] | None = None

    @abstractmethod
    def score_corpus(self, answers: list[str], references: list[tuple[str, ...]]) -> list[float]:
        """Judge every answer of the corpus, of which there is at least one."""

    def scores(self) -> list[float]:
        """Judge the corpus once, until another example comes in."""
        if self._cached_scores is None:
            self._cached_scores = (
                self.score_corpus(self.answers, self.references) if self.answers else []
            )
        return self._cached_scores

    def update(self, example: Example, prediction: Prediction) -> dict[str, float]:
        self.answers.append(answer_text(prediction))
        self.references.append(reference_texts(example))
        self._cached_scores = None
        return {}

    def compute(self) -> dict[str, float]:
        scores = self.scores()
        return {self.name: sum(scores) / len(scores) if scores else float("nan")}

    def per_example_scores(self) -> list[dict[str, float]]:
        return [{self.name: score} for score in self.scores()]

    def compute_weighted(self, counts: ResampleCounts) -> dict[str, FloatArray]:
        return {self.name: weighted_mean(counts, self.scores())}


def weighted_mean(counts: ResampleCounts, scores: Iterable[float]) -> FloatArray:
    """Return the mean score of each corpus, (corpora,); NaN for one without examples."""
    return ratio(counts @ np.fromiter(scores, float), counts.sum(axis=1))


def ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Divide, NaN where the divisor is zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        divided: FloatArray = np.where(denominator > 0, numerator / denominator, np.nan)
    return divided


def answer_text(prediction: Prediction) -> str:
    """The predicted text; empty where malformed. Raises TypeError for a task of boxes."""
    value = prediction.value
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError(f"prediction {prediction.id} holds objects; a text metric needs an answer")
    return value


def reference_texts(example: Example) -> tuple[str, ...]:
    """The acceptable texts. Raises TypeError for a task of boxes."""
    texts = tuple(text for text in example.reference if isinstance(text, str))
    if len(texts) != len(example.reference):
        raise TypeError(f"example {example.id} refers to objects; a text metric needs answers")
    return texts


def require_objects(value: Value | Reference, context: str) -> tuple[Instance, ...]:
    """The objects of a prediction or example. Raises TypeError for a task of text."""
    objects = tuple(entry for entry in value if isinstance(entry, Instance))
    if len(objects) != len(value):
        raise TypeError(f"{context} holds text; this metric needs objects")
    return objects


def check_references(references: Sequence[str]) -> None:
    """Refuse to judge an answer against nothing."""
    if not references:
        raise ValueError("no reference to judge the answer against; give at least one")
