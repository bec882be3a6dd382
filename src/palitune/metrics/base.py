"""Base classes of the metrics: per-example scores on update, corpus values on compute."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from palitune.records import Example, Instance, Prediction, Reference, Value

FloatArray = npt.NDArray[np.float64]
ResampleCounts = npt.NDArray[np.float64]
"""(corpora, examples): how often each example, in the order of update, occurs in each corpus."""


class ResampledMetric(ABC):
    """A metric that can also be computed on other corpora made of the same examples."""

    @property
    @abstractmethod
    def num_examples(self) -> int:
        """Number of calls of `update`."""

    @abstractmethod
    def compute_weighted(self, counts: ResampleCounts) -> dict[str, FloatArray]:
        """Return the values on other corpora made of the same examples, (corpora,) by name.

        Bootstrap intervals and slices use it; no example is scored again.
        """

    def compute(self) -> dict[str, float]:
        """Return the corpus values by name; an empty corpus gives NaN, never 0."""
        values = self.compute_weighted(np.ones((1, self.num_examples)))
        return {name: float(value[0]) for name, value in values.items()}


class Metric(ResampledMetric):
    """Accumulates predictions; a malformed one (`value is None`) scores as an empty answer."""

    @abstractmethod
    def update(self, example: Example, prediction: Prediction) -> dict[str, float]:
        """Add one example and return its own scores, for `predictions.jsonl` and the report."""

    def per_example_scores(self) -> list[dict[str, float]]:
        """Return the scores of all examples if they depend on the whole corpus, else nothing.

        The order is that of `update`, which returned no scores.
        """
        return []

    def compute_slices(self) -> dict[str, dict[str, dict[str, float]]]:
        """Return values by attribute and attribute value if a slice is less than whole examples.

        For example, one image contains objects of several classes. The entry `examples` is the
        number of examples in which the attribute value occurs.
        """
        return {}


class StatisticsMetric(ResampledMetric):
    """A metric computed from a fixed number of statistics of each example."""

    num_statistics: ClassVar[int]

    def __init__(self) -> None:
        self.statistics: list[tuple[float, ...]] = []

    @property
    def num_examples(self) -> int:
        return len(self.statistics)

    def columns(self) -> FloatArray:
        """Return each statistic of every example, (statistics, examples)."""
        return np.array(self.statistics, float).reshape(-1, self.num_statistics).T

    def sums(self, counts: ResampleCounts) -> FloatArray:
        """Return each statistic summed over every corpus, (statistics, corpora)."""
        summed: FloatArray = counts @ self.columns().T
        return summed.T


class SummedMetric(StatisticsMetric, Metric):
    """A metric of predictions that is computed from statistics of each example."""


class SeveralMeansMetric(SummedMetric):
    """A metric of text with several values, each the mean of a per-example score."""

    names: tuple[str, ...]

    @abstractmethod
    def scores(self, answer: str, references: tuple[str, ...]) -> tuple[float, ...]:
        """Score one answer against all acceptable ones, in the order of `names`."""

    def update(self, example: Example, prediction: Prediction) -> dict[str, float]:
        self.statistics.append(self.scores(answer_text(prediction), reference_texts(example)))
        return dict(zip(self.names, self.statistics[-1], strict=True))

    def compute_weighted(self, counts: ResampleCounts) -> dict[str, FloatArray]:
        means = (weighted_mean(counts, column) for column in self.columns())
        return dict(zip(self.names, means, strict=True))


class MeanMetric(Metric):
    """A metric whose corpus value is the mean of its per-example scores."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.scores: list[float] = []

    @property
    def num_examples(self) -> int:
        return len(self.scores)

    @abstractmethod
    def score(self, answer: str, references: tuple[str, ...]) -> float:
        """Score one answer against all acceptable ones."""

    def update(self, example: Example, prediction: Prediction) -> dict[str, float]:
        self.scores.append(self.score(answer_text(prediction), reference_texts(example)))
        return {self.name: self.scores[-1]}

    def compute(self) -> dict[str, float]:
        return {self.name: mean(self.scores)}

    def compute_weighted(self, counts: ResampleCounts) -> dict[str, FloatArray]:
        return {self.name: weighted_mean(counts, self.scores)}


class CorpusMetric(Metric):
    """A metric whose per-example statistics are computed for the whole corpus at once."""

    num_statistics: ClassVar[int] = 1

    def __init__(self) -> None:
        self.answers: list[str] = []
        self.references: list[tuple[str, ...]] = []
        self._cached_statistics: FloatArray | None = None

    @abstractmethod
    def corpus_statistics(
        self, answers: list[str], references: list[tuple[str, ...]]
    ) -> FloatArray:
        """Return the statistics of at least one example, (examples, num_statistics)."""

    @property
    def num_examples(self) -> int:
        return len(self.answers)

    def update(self, example: Example, prediction: Prediction) -> dict[str, float]:
        self.answers.append(answer_text(prediction))
        self.references.append(reference_texts(example))
        self._cached_statistics = None
        return {}

    def statistics(self) -> FloatArray:
        """Return (examples, num_statistics), computed once until the next update."""
        if not self.answers:
            return np.empty((0, self.num_statistics))
        if self._cached_statistics is None:
            self._cached_statistics = self.corpus_statistics(self.answers, self.references)
        return self._cached_statistics


class CorpusMeanMetric(CorpusMetric):
    """A metric whose corpus value is the mean of scores that depend on the whole corpus.

    `compute_weighted` keeps the scores, including what they take from the corpus.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def compute(self) -> dict[str, float]:
        return {self.name: mean(self._scores())}

    def per_example_scores(self) -> list[dict[str, float]]:
        return [{self.name: score} for score in self._scores()]

    def compute_weighted(self, counts: ResampleCounts) -> dict[str, FloatArray]:
        return {self.name: weighted_mean(counts, self._scores())}

    def _scores(self) -> list[float]:
        scores: list[float] = self.statistics()[:, 0].tolist()
        return scores


def mean(values: Sequence[float]) -> float:
    """Return the mean; NaN without values."""
    return sum(values) / len(values) if values else float("nan")


def weighted_mean(counts: ResampleCounts, scores: Iterable[float]) -> FloatArray:
    """Return the mean score of each corpus, (corpora,); NaN for one without examples."""
    return ratio(counts @ np.fromiter(scores, float), counts.sum(axis=1))


def ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Divide; NaN if the denominator is zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        quotient: FloatArray = np.where(denominator > 0, numerator / denominator, np.nan)
    return quotient


def mean_of_defined(values: FloatArray, axis: int) -> FloatArray:
    """Return the mean over an axis without NaN; NaN if no value is defined."""
    defined = ~np.isnan(values)
    return ratio(np.where(defined, values, 0).sum(axis), defined.sum(axis).astype(float))


def answer_text(prediction: Prediction) -> str:
    """Return the predicted text; empty if malformed. Raises TypeError for predicted objects."""
    value = prediction.value
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError(f"prediction {prediction.id} holds objects; a text metric needs an answer")
    return value


def reference_texts(example: Example) -> tuple[str, ...]:
    """Return the acceptable texts. Raises TypeError for reference objects."""
    texts = tuple(text for text in example.reference if isinstance(text, str))
    if len(texts) != len(example.reference):
        raise TypeError(f"example {example.id} refers to objects; a text metric needs answers")
    return texts


def predicted_objects(prediction: Prediction) -> tuple[Instance, ...]:
    """Return the predicted objects; none if malformed. Raises TypeError for a predicted text."""
    return _require_objects(prediction.value or (), f"prediction {prediction.id}")


def reference_objects(example: Example) -> tuple[Instance, ...]:
    """Return the reference objects. Raises TypeError for reference texts."""
    return _require_objects(example.reference, f"example {example.id}")


def _require_objects(value: Value | Reference, context: str) -> tuple[Instance, ...]:
    objects = tuple(entry for entry in value if isinstance(entry, Instance))
    if len(objects) != len(value):
        raise TypeError(f"{context} holds text; this metric needs objects")
    return objects


def check_references(references: Sequence[str]) -> None:
    """Raise ValueError if there is no reference."""
    if not references:
        raise ValueError("no reference to score the answer against; provide at least one")
