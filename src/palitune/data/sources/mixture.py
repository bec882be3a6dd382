"""A mixture: several data sets with a task each, `{ocr: {task, data, repeat}, vqa: ...}`."""

import math
import re
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

from annotated_types import Ge, Gt, Lt

from palitune.data.sources.base import Data, DatasetSpec, Source
from palitune.errors import check_ranges
from palitune.tasks import Task


@dataclass(kw_only=True)
class MixtureComponent:
    """One data set of a mixture."""

    task: Task
    """The task that writes prompts and targets."""
    data: Source
    """The data source."""
    repeat: Annotated[int, Ge(1)] = 1
    """Visits to each example in one training epoch."""
    weight: Annotated[float | None, Ge(0), Lt(math.inf)] = None
    """Instead of repeat: number of training samples relative to the weights of the other
    components. An epoch then has as many samples as there are examples, and each stretch of it has
    every component's share. 0: evaluated, but not trained on."""
    shots: Annotated[int | None, Ge(1)] = None
    """Number of random training examples, chosen by the seed; more shots contain fewer ones; null:
    all. Evaluation uses all examples."""

    def __post_init__(self) -> None:
        check_ranges(self, "data.parts.*")
        if self.weight is not None and self.repeat > 1:
            raise ValueError(
                f"data.parts.*: weight={self.weight} and repeat={self.repeat} exclude each other. "
                "Set one of them."
            )


@dataclass(kw_only=True)
class Mixture(Data):
    """Data sets that are trained on together and evaluated separately."""

    name: ClassVar[str] = "mixture"

    parts: dict[str, MixtureComponent]
    """The components by name, which is the prefix of their metrics, e.g. `ocr/exact_match`."""
    temperature: Annotated[float | None, Gt(0)] = None
    """Weight each component by its number of examples to the power of 1 / temperature: 1 in
    proportion to the sizes, 2 to their square roots, higher more evenly; null: by repeat or
    weight."""
    max_samples: int | None = None
    """First N examples of every split of each component without a max_samples of its own."""

    def __post_init__(self) -> None:
        check_ranges(self, "data")
        if not self.parts:
            raise ValueError("data.parts must have at least one component, {task: ..., data: ...}.")
        for name in self.parts:
            if not re.fullmatch(r"[\w.-]+", name):
                raise ValueError(
                    f"data.parts: a name must consist of letters, digits, '_', '-' and '.', got "
                    f"{name!r}."
                )
        self._check_weights()

    def _check_weights(self) -> None:
        trained = {name: part for name, part in self.parts.items() if part.weight != 0}
        if not trained:
            raise ValueError("data.parts: at least one weight must be above 0.")
        if self.temperature is not None:
            for name, part in trained.items():
                if part.weight is not None or part.repeat > 1:
                    raise ValueError(
                        "data.temperature excludes weight and repeat. Remove them from "
                        f"data.parts.{name}, or set data.temperature=null."
                    )
        without = [name for name, part in trained.items() if part.weight is None]
        if without and len(without) < len(trained):
            raise ValueError(
                f"data.parts.{without[0]}.weight is missing. If one component has a weight, all "
                "must have one."
            )

    def dataset_specs(self, task: Task | None) -> list[DatasetSpec]:
        if task is not None:
            raise ValueError(
                "task must not be set for a mixture, whose components have their own tasks. Remove "
                f"task={task.name}, or choose other data."
            )
        return [
            replace(
                spec,
                name=name,
                repeat=part.repeat,
                weight=part.weight,
                temperature=self.temperature,
                shots=part.shots,
            )
            for name, part in self.parts.items()
            for spec in self._with_limit(part.data).dataset_specs(part.task)
        ]

    def _with_limit(self, source: Source) -> Source:
        return replace(
            source,
            max_samples=self.max_samples if source.max_samples is None else source.max_samples,
        )
