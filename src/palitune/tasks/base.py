"""What every task is: the only place that writes prefix and suffix text, and that reads it back."""

import string
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import ClassVar, TypeVar

from palitune.codec.boxes import ConfidenceFn
from palitune.codec.grammar import ObjectGrammar
from palitune.errors import DataError
from palitune.metrics import METRICS, METRICS_WITH_EXTRAS
from palitune.metrics.reward_names import check_reward_weights
from palitune.records import Example, Reference, Row, Size, Value

T = TypeVar("T")


class MissingColumnError(DataError):
    """A row lacks a column that a task cannot do without."""


@dataclass(kw_only=True)
class Task(ABC):
    """Turn a row into a prompt with its targets, and a model's text into a value."""

    name: ClassVar[str]
    validity_metrics: ClassVar[tuple[str, ...]] = ()
    """Which of `palitune.evaluation.output_validity.SHARES` are told of its answers."""
    allow_flip: ClassVar[bool] = False
    """Whether examples stay true in a mirror, as long as no word in them says left or right."""
    allow_crop: ClassVar[bool] = False
    """Whether examples stay true of a part of the image, with the objects that are in it."""
    single_image_only: ClassVar[bool] = True
    """Whether examples speak of places, which are in the one image there is."""

    metrics: list[str] = field(default_factory=list)
    """Names out of `palitune.metrics.METRICS`."""
    max_new_tokens: int = 32
    """Tokens that generation may write for one answer, EOS included."""
    reward_weights: dict[str, float] = field(default_factory=dict)
    """Weight of each reward that `palitune align` trains for, e.g. {mean_iou: 1, valid: 0.2}; names
    are those of metrics, and mean_iou | mean_mask_iou | valid; empty: the first metric."""

    def __post_init__(self) -> None:
        for metric in self.metrics:
            if metric not in METRICS:
                raise ValueError(
                    f"task.metrics: {metric!r} is not one of {', '.join(sorted(METRICS))}"
                )
            if metric in METRICS_WITH_EXTRAS:
                METRICS[metric]()  # it says here, and not after a training, what it lacks
        check_reward_weights(self.reward_weights)
        if self.max_new_tokens < 1:
            raise ValueError(f"task.max_new_tokens must be at least 1, not {self.max_new_tokens}")

    @abstractmethod
    def prefix(self, row: Row) -> str:
        """Write the prompt of a row that does not bring its own."""

    @abstractmethod
    def targets(self, row: Row) -> tuple[tuple[str, ...], Reference]:
        """Write every acceptable suffix, and the reference that predictions are judged against."""

    @abstractmethod
    def parse(self, text: str, size: Size, confidence: ConfidenceFn | None = None) -> Value | None:
        """Read a model's text; None where it is malformed. Never raises."""

    def grammar(self, prefix: str) -> ObjectGrammar | None:
        """Tell what answers to a prompt are well-formed; None where any text is."""
        return None

    @property
    def requires_grammar(self) -> bool:
        """Whether answers mean nothing but within the grammar, whatever the settings say."""
        return False

    def choice_suffixes(self, example: Example) -> tuple[str, ...]:
        """Write the suffix of every choice of an example; none where any answer may come."""
        return ()

    def count_malformed(self, text: str) -> int:
        """Count the fragments of a model's text that no object can be read from."""
        return 0

    def reference_from_suffix(self, row: Row, suffix: str) -> Reference:
        """Read the reference out of a suffix that the row brings itself."""
        value = self.parse(suffix, row.size)
        if value is None:
            raise DataError(f"{row.location}: suffix {suffix!r} cannot be read by task {self.name}")
        return (value,) if isinstance(value, str) else value

    def randomize(self, example: Example, rng: Random) -> Example:
        """Write an example anew for one visit in training, e.g. with its choices shuffled."""
        return example

    def input_files(self) -> list[Path]:
        """Name the files, besides the data, that the examples follow from."""
        return []

    def warnings(self) -> list[str]:
        """Say what to know of the settings before training, a sentence each."""
        return []

    def include_in_training(self, row: Row) -> bool:
        """Tell whether to learn from a row; asked of the split `train` only."""
        return True

    def count_dropped(self, row: Row) -> dict[str, int]:
        """Count the objects that the row has and its suffix does not, by reason."""
        return {}

    def example(self, row: Row) -> Example:
        """Write the example of one row. Raises DataError, naming the row's place."""
        if row.suffix is None:
            return self._build_example(row, *self.targets(row))
        return self._build_example(row, (row.suffix,), self.reference_from_suffix(row, row.suffix))

    def prompt_only_example(self, row: Row) -> Example:
        """Write the example of a row that has no reference: a prompt without a suffix."""
        return self._build_example(row, (), ())

    def _build_example(self, row: Row, suffixes: tuple[str, ...], reference: Reference) -> Example:
        if self.single_image_only and len(row.images) > 1:
            raise DataError(multiple_images_message(row.location, len(row.images), self.name))
        return Example(
            id=row.id,
            images=row.images,
            size=row.size,
            prefix=self.prefix(row) if row.prefix is None else row.prefix,
            suffixes=suffixes,
            reference=reference,
            location=row.location,
            attributes=row.attributes,
        )


@dataclass(kw_only=True)
class TextTask(Task):
    """A task whose answer is the text itself."""

    single_image_only: ClassVar[bool] = False

    def parse(self, text: str, size: Size, confidence: ConfidenceFn | None = None) -> str | None:
        return text.strip()

    def reference_from_suffix(self, row: Row, suffix: str) -> Reference:
        return require_texts(row, "suffix", (suffix,))


def multiple_images_message(source: str, count: int, task: str) -> str:
    """Say that a task cannot tell in which image a box is."""
    return (
        f"{source}: {count} images, and task {task} writes boxes, which cannot say in which image "
        "they are; give one image per row, or choose a task of text alone"
    )


def require(row: Row, column: str, value: T | None) -> T:
    """Return the value of a column that the task cannot do without; else raise MissingColumn."""
    if value is None:
        raise MissingColumnError(
            f"{row.location}: column '{column}' is missing; this task needs it"
        )
    return value


def require_texts(row: Row, column: str, values: tuple[str, ...] | None) -> tuple[str, ...]:
    """Return the stripped texts of a column; at least one, none of them empty."""
    stripped = tuple(value.strip() for value in require(row, column, values))
    if not stripped or not all(stripped):
        raise DataError(
            f"{row.location}: column '{column}' holds an empty text; a target must not be empty, "
            "drop the row or fill it in"
        )
    return stripped


def referring_expression(row: Row) -> str:
    """Return the words that refer to a row's objects: its `expression`, else its `question`."""
    written = row.question if row.expression is None else row.expression
    return require_texts(row, "expression", None if written is None else (written,))[0]


def placeholders(template: str) -> set[str]:
    """Return what stands between braces, format instructions included."""
    fields = string.Formatter().parse(template)
    return {
        name + (f"!{conversion}" if conversion else "") + (f":{style}" if style else "")
        for _, name, style, conversion in fields
        if name is not None
    }


def check_template(setting: str, template: str, allowed: set[str]) -> None:
    """Refuse a template with a placeholder that no row can fill."""
    try:
        used = placeholders(template)
    except ValueError as mistake:
        raise ValueError(f"{setting}: {template!r} is not a template: {mistake}") from mistake
    if unknown := used - allowed:
        raise ValueError(
            f"{setting}: unknown placeholder {{{sorted(unknown)[0]}}}; "
            f"valid are {', '.join(sorted(allowed))}"
        )
