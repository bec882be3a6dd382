"""Several data sets with a task each, learned together: `{ocr: {task, data, repeat}, vqa: ...}`."""

import re
from dataclasses import dataclass, replace
from typing import ClassVar

from palitune.data.sources.base import Data, DatasetSpec, Source
from palitune.tasks import Task


@dataclass(kw_only=True)
class MixtureComponent:
    """One data set of a mixture."""

    task: Task
    """How its rows become prompts and targets."""
    data: Source
    """Where its rows come from."""
    repeat: int = 1
    """Visits to each of its examples in one training epoch."""
    weight: float | None = None
    """Instead of repeat: its share of the visits, relative to the weights of the others. An epoch
    then has as many visits as there are examples, and every part its share of each stretch of it;
    0: nothing is learned from it, it is only judged."""
    shots: int | None = None
    """Learn from so many of its examples, drawn by the seed; more shots contain fewer ones; null:
    all. What is judged stays whole."""

    def __post_init__(self) -> None:
        for name in ("repeat", "shots"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"data.parts.*.{name} must be at least 1, not {value}")
        if self.weight is not None and not 0 <= self.weight < float("inf"):
            raise ValueError(f"data.parts.*.weight must be at least 0, not {self.weight}")
        if self.weight is not None and self.repeat > 1:
            raise ValueError(
                f"data.parts.*: weight={self.weight} and repeat={self.repeat} both say how often "
                "its examples are visited; choose one"
            )


@dataclass(kw_only=True)
class Mixture(Data):
    """Data sets that are trained on together and judged one by one."""

    name: ClassVar[str] = "mixture"

    parts: dict[str, MixtureComponent]
    """The data sets by name; the name stands before their numbers, e.g. `ocr/exact_match`."""
    temperature: float | None = None
    """Weigh every part by its number of examples to the power of 1 / temperature: 1 as large as
    they are, 2 by the square root, the higher the more alike; null: by repeat or weight."""
    max_samples: int | None = None
    """First N examples of every split of every part, where the part sets no limit of its own."""

    def __post_init__(self) -> None:
        if not self.parts:
            raise ValueError(
                "data.parts: a mixture needs at least one part, {task: ..., data: ...}"
            )
        for name in self.parts:
            if not re.fullmatch(r"[\w.-]+", name):
                raise ValueError(
                    f"data.parts: {name!r} is not a name of letters, digits, '_', '-' and '.'"
                )
        self._check_weights()

    def _check_weights(self) -> None:
        learned = {name: part for name, part in self.parts.items() if part.weight != 0}
        if not learned:
            raise ValueError("data.parts: every weight is 0, so that nothing would be learned")
        if self.temperature is not None:
            if self.temperature <= 0:
                raise ValueError(f"data.temperature must be above 0, not {self.temperature}")
            for name, part in learned.items():
                if part.weight is not None or part.repeat > 1:
                    raise ValueError(
                        f"data.temperature weighs the parts itself; leave out weight and repeat of "
                        f"data.parts.{name}, or set data.temperature=null"
                    )
        without = [name for name, part in learned.items() if part.weight is None]
        if without and len(without) < len(learned):
            raise ValueError(
                f"data.parts.{without[0]}.weight is missing: where one part has a weight, each that"
                " is learned from needs one"
            )

    def dataset_specs(self, task: Task | None) -> list[DatasetSpec]:
        if task is not None:
            raise ValueError(
                f"task: the parts of a mixture bring their own tasks; leave out task={task.name} "
                "or choose other data"
            )
        return [
            replace(
                pairing,
                name=name,
                repeat=part.repeat,
                weight=part.weight,
                temperature=self.temperature,
                shots=part.shots,
            )
            for name, part in self.parts.items()
            for pairing in self._with_limit(part.data).dataset_specs(part.task)
        ]

    def _with_limit(self, source: Source) -> Source:
        return replace(
            source,
            max_samples=self.max_samples if source.max_samples is None else source.max_samples,
        )
