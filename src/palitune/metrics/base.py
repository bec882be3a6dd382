"""What every metric is: a per-example score on update, corpus numbers on compute."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from palitune.examples import Example, Instance, Prediction, Reference, Value


class Metric(ABC):
    """Accumulate predictions; a malformed one (`value is None`) scores as an empty answer."""

    @abstractmethod
    def update(self, example: Example, prediction: Prediction) -> dict[str, float]:
        """Take in one example and return its own scores, for `predictions.jsonl` and the report."""

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """Return the corpus numbers by name; an empty corpus gives NaN, never 0."""


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
