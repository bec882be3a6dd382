"""Base classes of the tasks, which write prefix and suffix text and parse generated text."""

import string
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from random import Random
from typing import Annotated, ClassVar, TypeVar

from annotated_types import Ge

from palitune.codec.boxes import ConfidenceFn
from palitune.codec.grammar import ObjectGrammar
from palitune.codec.json_fields import JsonGrammar
from palitune.errors import DataError, check_ranges
from palitune.metrics import METRICS, OBJECT_METRICS
from palitune.metrics.reward_names import check_reward_weights
from palitune.records import Example, Reference, Row, Size, Value

T = TypeVar("T")


class MissingColumnError(DataError):
    """A row has no value in a column that the task requires."""


@dataclass(kw_only=True)
class Task(ABC):
    """Converts rows to prompts with targets, and generated text to values."""

    name: ClassVar[str]
    validity_metrics: ClassVar[tuple[str, ...]] = ()
    """Metrics of `palitune.evaluation.output_validity` that are reported for the task."""
    allow_flip: ClassVar[bool] = False
    """Whether images may be mirrored, unless a text contains the word left or right."""
    allow_crop: ClassVar[bool] = False
    """Whether images may be cropped, with the objects inside the crop."""
    single_image_only: ClassVar[bool] = True
    """Whether examples contain boxes, which refer to a single image."""

    value_is_text: ClassVar[bool] = False
    """Whether predictions are texts instead of objects."""

    metrics: list[str] = field(default_factory=list)
    """Names of the metrics to report."""
    max_new_tokens: Annotated[int, Ge(1)] = 32
    """Maximum number of generated tokens per answer, including EOS."""
    reward_weights: dict[str, float] = field(default_factory=dict)
    """Weights of the rewards for `palitune align`, e.g. {mean_iou: 1, valid: 0.2}. Names are
    metrics, mean_iou, mean_mask_iou or valid; empty: the first metric."""

    def __post_init__(self) -> None:
        for metric in self.metrics:
            if metric not in METRICS:
                raise ValueError(
                    f"task.metrics: {metric!r} is not one of {', '.join(sorted(METRICS))}"
                )
            if (metric in OBJECT_METRICS) is self.value_is_text:
                kinds = ("objects", "text") if self.value_is_text else ("text", "objects")
                raise ValueError(
                    f"task.metrics: {metric} scores {kinds[0]}, but task {self.name} generates "
                    f"{kinds[1]}. Remove it, or choose another task."
                )
        check_reward_weights(self.reward_weights)
        check_ranges(self, "task")

    @abstractmethod
    def prefix(self, row: Row) -> str:
        """Return the prompt of a row without a prefix of its own."""

    @abstractmethod
    def targets(self, row: Row) -> tuple[tuple[str, ...], Reference]:
        """Return all acceptable suffixes, and the reference that predictions are scored against."""

    @abstractmethod
    def parse(self, text: str, size: Size, confidence: ConfidenceFn | None = None) -> Value | None:
        """Parse generated text; None if it is malformed. Never raises.

        `confidence` returns the confidence of a span of characters.
        """

    def grammar(self, prefix: str) -> ObjectGrammar | JsonGrammar | None:
        """Return the grammar of answers to a prompt; None if any text is well-formed."""
        return None

    @property
    def requires_grammar(self) -> bool:
        """Whether generation must follow the grammar, regardless of the settings."""
        return False

    def repairs(self, text: str) -> tuple[str, ...]:
        """Return what was repaired to parse a generated text; empty if it is well-formed."""
        return ()

    def field_confidences(self, text: str, confidence: ConfidenceFn) -> dict[str, float]:
        """Return the confidence of every field of a generated text, by path."""
        return {}

    def choice_suffixes(self, example: Example) -> tuple[str, ...]:
        """Return the suffix of every choice of an example; empty if the answer is free text."""
        return ()

    def count_malformed(self, text: str) -> int:
        """Count the fragments of a generated text that are no valid object."""
        return 0

    def reference_from_suffix(self, row: Row, suffix: str) -> Reference:
        """Parse the reference from the suffix of a row."""
        value = self.parse(suffix, row.size)
        if value is None:
            raise DataError(f"{row.location}: task {self.name} cannot parse suffix {suffix!r}")
        return (value,) if isinstance(value, str) else value

    def randomize(self, example: Example, rng: Random) -> Example:
        """Return an example with a new random variation for one epoch, e.g. shuffled choices."""
        return example

    def infer_settings(self, read_rows: Callable[[], Iterable[Row | DataError]]) -> None:
        """Set the settings that are left to the data, so that they are saved with the run.

        `read_rows` reads the rows of the training split. Raises ValueError for unsuitable data.
        """
        return

    def check_training_examples(self, examples: Iterable[Example]) -> None:
        """Raise DataError if all training examples together do not fit the settings."""
        return

    def input_files(self) -> list[Path]:
        """Return the files other than the data that the examples depend on."""
        return []

    def warnings(self) -> list[str]:
        """Return warnings about the settings, one sentence each."""
        return []

    def include_in_training(self, row: Row) -> bool:
        """Return whether to train on a row; called for the split `train` only."""
        return True

    def count_dropped(self, row: Row) -> dict[str, int]:
        """Count the objects of a row that are left out of its suffix, by reason."""
        return {}

    def example(self, row: Row) -> Example:
        """Return the example of one row. Raises DataError with the location of the row."""
        with _row_location_in_errors(row):
            if row.suffix is None:
                return self._build_example(row, *self.targets(row))
            reference = self.reference_from_suffix(row, row.suffix)
            return self._build_example(row, (row.suffix,), reference)

    def prompt_only_example(self, row: Row) -> Example:
        """Return the example of a row without a reference: a prompt without a suffix."""
        with _row_location_in_errors(row):
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
            tile=row.tile,
        )


@dataclass(kw_only=True)
class TextTask(Task):
    """A task whose value is the generated text itself."""

    single_image_only: ClassVar[bool] = False
    value_is_text: ClassVar[bool] = True

    def parse(self, text: str, size: Size, confidence: ConfidenceFn | None = None) -> str | None:
        return text.strip()

    def reference_from_suffix(self, row: Row, suffix: str) -> Reference:
        return require_texts(row, "suffix", (suffix,))


@contextmanager
def _row_location_in_errors(row: Row) -> Iterator[None]:
    """Convert a ValueError to a DataError with the location of the row."""
    try:
        yield
    except DataError:
        raise
    except ValueError as error:
        raise DataError(f"{row.location}: {error}") from error


def multiple_images_message(source: str, count: int, task: str) -> str:
    """Return the error message for several images in a task with boxes."""
    return (
        f"{source}: {count} images, but task {task} writes boxes, which refer to a single image. "
        "Use one image per row, or a task that writes text only"
    )


def require(row: Row, column: str, value: T | None) -> T:
    """Return the value of a required column. Raises MissingColumnError if it is None."""
    if value is None:
        raise MissingColumnError(
            f"{row.location}: column '{column}' is missing, but this task requires it"
        )
    return value


def require_texts(row: Row, column: str, values: tuple[str, ...] | None) -> tuple[str, ...]:
    """Return the stripped texts of a column. Raises DataError for an empty text or none."""
    stripped = tuple(value.strip() for value in require(row, column, values))
    if not stripped or not all(stripped):
        raise DataError(
            f"{row.location}: column '{column}' contains an empty text, which cannot be a target. "
            "Remove the row or fill in the text"
        )
    return stripped


def referring_expression(row: Row) -> str:
    """Return the referring expression of a row: its `expression`, else its `question`."""
    text = row.question if row.expression is None else row.expression
    return require_texts(row, "expression", None if text is None else (text,))[0]


@cache
def placeholders(template: str) -> frozenset[str]:
    """Return the placeholders of a template, including conversions and format specifications."""
    fields = string.Formatter().parse(template)
    return frozenset(
        name + (f"!{conversion}" if conversion else "") + (f":{style}" if style else "")
        for _, name, style, conversion in fields
        if name is not None
    )


def check_template(setting: str, template: str, allowed: set[str]) -> None:
    """Raise ValueError for an invalid template or an unknown placeholder."""
    try:
        used = placeholders(template)
    except ValueError as error:
        raise ValueError(f"{setting}: {template!r} is not a valid template: {error}") from error
    if unknown := used - allowed:
        raise ValueError(
            f"{setting}: unknown placeholder {{{sorted(unknown)[0]}}}; "
            f"valid are {', '.join(sorted(allowed))}"
        )
