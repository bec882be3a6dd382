"""Several data sets with a task each, learned together: `{ocr: {task, data, repeat}, vqa: ...}`."""

import re
from dataclasses import dataclass, replace
from typing import ClassVar

from palitune.data.sources.base import Data, Pairing, Source
from palitune.tasks import Task


@dataclass(kw_only=True)
class MixturePart:
    """One data set of a mixture."""

    task: Task
    """How its rows become prompts and targets."""
    data: Source
    """Where its rows come from."""
    repeat: int = 1
    """Visits to each of its examples in one training epoch."""

    def __post_init__(self) -> None:
        if self.repeat < 1:
            raise ValueError(f"data.parts.*.repeat must be at least 1, not {self.repeat}")


@dataclass(kw_only=True)
class Mixture(Data):
    """Data sets that are trained on together and judged one by one."""

    name: ClassVar[str] = "mixture"

    parts: dict[str, MixturePart]
    """The data sets by name; the name stands before their numbers, e.g. `ocr/exact_match`."""

    limit: int | None = None
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

    def pairings(self, task: Task | None) -> list[Pairing]:
        if task is not None:
            raise ValueError(
                f"task: the parts of a mixture bring their own tasks; leave out task={task.name} "
                "or choose other data"
            )
        return [
            replace(pairing, name=name, repeat=part.repeat)
            for name, part in self.parts.items()
            for pairing in self._limited(part.data).pairings(part.task)
        ]

    def _limited(self, source: Source) -> Source:
        return replace(source, limit=self.limit if source.limit is None else source.limit)
