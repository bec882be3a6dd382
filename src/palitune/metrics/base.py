"""What every metric is: a per-example score on update, corpus numbers on compute."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from palitune.examples import DataError, Example, Instance, Prediction, Reference, Value

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.float64]
"""(corpora, examples): how often each example, in the order of update, stands in each corpus."""


class MetricError(DataError):
    """A metric cannot be computed here; the text is one sentence that says what is missing."""


class Metric(ABC):
    """Accumulate predictions; a malformed one (`value is None`) scores as an empty answer."""

    @abstractmethod
    def update(self, example: Example, prediction: Prediction) -> dict[str, float]:
        """Take in one example and return its own scores, for `predictions.jsonl` and the report."""

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """Return the corpus numbers by name; an empty corpus gives NaN, never 0."""

    def corpus_scores(self) -> list[dict[str, float]]:
        """Return the scores of every example where they need the whole corpus, else nothing.

        They are in the order of update, which then returned none.
        """
        return []

    def weighted(self, counts: Counts) -> dict[str, Floats]:
        """Return the numbers of other corpora made of the same examples, (corpora,) by name.

        That is what intervals (examples drawn anew) and slices (some examples only) need; it reads
        what `update` kept and judges no answer again. A number that cannot be had so is missing.
        """
        return {}

    def slices(self) -> dict[str, dict[str, dict[str, float]]]:
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
        self.scores.append(self.score(answer_of(prediction), references_of(example)))
        return {self.name: self.scores[-1]}

    def compute(self) -> dict[str, float]:
        mean = sum(self.scores) / len(self.scores) if self.scores else float("nan")
        return {self.name: mean}

    def weighted(self, counts: Counts) -> dict[str, Floats]:
        return {self.name: weighted_mean(counts, self.scores)}


class CorpusMeanMetric(Metric):
    """A metric whose corpus number is the mean of scores that need the whole corpus.

    `weighted` leaves the scores as they are, so what they take from the corpus stays fixed.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.answers: list[str] = []
        self.references: list[tuple[str, ...]] = []
        self._scores: list[float] | None = None

    @abstractmethod
    def judge(self, answers: list[str], references: list[tuple[str, ...]]) -> list[float]:
        """Judge every answer of the corpus, of which there is at least one."""

    def scores(self) -> list[float]:
        """Judge the corpus once, until another example comes in."""
        if self._scores is None:
            self._scores = self.judge(self.answers, self.references) if self.answers else []
        return self._scores

    def update(self, example: Example, prediction: Prediction) -> dict[str, float]:
        self.answers.append(answer_of(prediction))
        self.references.append(references_of(example))
        self._scores = None
        return {}

    def compute(self) -> dict[str, float]:
        scores = self.scores()
        return {self.name: sum(scores) / len(scores) if scores else float("nan")}

    def corpus_scores(self) -> list[dict[str, float]]:
        return [{self.name: score} for score in self.scores()]

    def weighted(self, counts: Counts) -> dict[str, Floats]:
        return {self.name: weighted_mean(counts, self.scores())}


def weighted_mean(counts: Counts, scores: Iterable[float]) -> Floats:
    """Return the mean score of each corpus, (corpora,); NaN for one without examples."""
    return ratio(counts @ np.fromiter(scores, float), counts.sum(axis=1))


def ratio(parts: Floats, wholes: Floats) -> Floats:
    """Divide, NaN where the divisor is zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        divided: Floats = np.where(wholes > 0, parts / wholes, np.nan)
    return divided


def answer_of(prediction: Prediction) -> str:
    """The predicted text; empty where malformed. Raises TypeError for a task of boxes."""
    value = prediction.value
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError(f"prediction {prediction.id} holds objects; a text metric needs an answer")
    return value


def references_of(example: Example) -> tuple[str, ...]:
    """The acceptable texts. Raises TypeError for a task of boxes."""
    texts = tuple(text for text in example.reference if isinstance(text, str))
    if len(texts) != len(example.reference):
        raise TypeError(f"example {example.id} refers to objects; a text metric needs answers")
    return texts


def objects_of(value: Value | Reference, owner: str) -> tuple[Instance, ...]:
    """The objects of a prediction or example. Raises TypeError for a task of text."""
    objects = tuple(entry for entry in value if isinstance(entry, Instance))
    if len(objects) != len(value):
        raise TypeError(f"{owner} holds text; this metric needs objects")
    return objects


def check_references(references: Sequence[str]) -> None:
    """Refuse to judge an answer against nothing."""
    if not references:
        raise ValueError("no reference to judge the answer against; give at least one")
