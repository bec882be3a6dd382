"""Documents to JSON: `extract json` -> `{"total":12.5,"items":[{"name":"Tea","price":3}]}`.

The target is canonical JSON of the declared fields (`palitune.codec.json_fields`). Values are
compared in the form that the declaration gives them; they are JSON texts, too.
"""

import reprlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from annotated_types import Ge

from palitune.codec.boxes import ConfidenceFn
from palitune.codec.json_fields import (
    FieldValues,
    JsonGrammar,
    ObjectField,
    canonical_json,
    infer_declaration,
    leaf_paths,
    parse_declaration,
    read_fields,
)
from palitune.errors import DataError
from palitune.records import Example, Reference, Row, Size
from palitune.tasks.base import TextTask, require


@dataclass(kw_only=True)
class Json(TextTask):
    """Values are canonical JSON texts."""

    name: ClassVar[str] = "json"

    prompt: str = "extract json"
    """The prompt."""
    fields: dict[str, Any] = field(default_factory=dict)
    """Fields with their kinds: text, lowercase, number, date, date_month_first, boolean; e.g.
    {total: number, items: [{name: text}]}. Empty: inferred from the split `train`."""
    metrics: list[str] = field(
        default_factory=lambda: ["json_fields", "json_tree", "exact_match", "json_malformed"]
    )
    max_new_tokens: Annotated[int, Ge(1)] = 512

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fields:
            parse_declaration(self.fields)

    def prefix(self, row: Row) -> str:
        return self.prompt

    def targets(self, row: Row) -> tuple[tuple[str, ...], Reference]:
        values = self._reference_values(row, require(row, "json", row.json))
        return (canonical_json(values.target),), (canonical_json(values.compared),)

    def reference_from_suffix(self, row: Row, suffix: str) -> Reference:
        return (canonical_json(self._reference_values(row, suffix).compared),)

    def parse(self, text: str, size: Size, confidence: ConfidenceFn | None = None) -> str | None:
        if not text.strip():
            return ""  # an empty answer, as in all tasks with text
        values = self._read(text)
        if values is None or (values.repairs and not values.compared):
            return None
        return canonical_json(values.compared)

    def count_malformed(self, text: str) -> int:
        return int(self.parse(text, (1, 1)) is None)

    def repairs(self, text: str) -> tuple[str, ...]:
        values = self._read(text)
        if values is None:
            return ("no JSON object",)
        return (*values.repairs, *(f"unknown field {path!r}" for path in values.unknown))

    def field_confidences(self, text: str, confidence: ConfidenceFn) -> dict[str, float]:
        values = self._read(text)
        places = {} if values is None else values.places
        return {path: confidence(start, end) for path, (start, end) in places.items()}

    def grammar(self, prefix: str) -> JsonGrammar:
        if not self.fields:
            raise DataError(
                "task.fields must be set for evaluation.constrained_decoding=true. Set the fields "
                "of the training, e.g. task.fields={total: number, date: date}."
            )
        return JsonGrammar(parse_declaration(self.fields))

    def count_dropped(self, row: Row) -> dict[str, int]:
        values = None if row.json is None or row.suffix is not None else self._read(row.json)
        paths = [] if values is None else values.unknown
        return (
            {f"fields that task.fields does not name, e.g. {paths[0]}": len(paths)} if paths else {}
        )

    def infer_settings(self, read_rows: Callable[[], Iterable[Row | DataError]]) -> None:
        if self.fields:
            return
        rows = (row for row in read_rows() if isinstance(row, Row))
        objects = [(row.json, row.location) for row in rows if row.json is not None]
        if objects:  # otherwise the first row is reported for its missing column
            self.fields = infer_declaration(objects)

    def check_training_examples(self, examples: Iterable[Example]) -> None:
        missing = set(leaf_paths(self._declaration()))
        example = None
        for example in examples:
            values = self._read(example.suffixes[0])
            missing -= {_without_positions(path) for path in values.places} if values else set()
            if not missing:
                return
        if example is not None:
            raise DataError(
                f"{example.location}: no row up to here has the field {min(missing)!r} of "
                "task.fields. Correct its name, or remove it."
            )

    def _reference_values(self, row: Row, text: str) -> FieldValues:
        values = self._read(text)
        if values is None or values.repairs:
            reason = "no JSON object" if values is None else values.repairs[0]
            raise DataError(
                f"{row.location}: column 'json' must be an object with task.fields ({reason}), got "
                f"{reprlib.repr(text)}. Correct the row, or declare another kind."
            )
        return values

    def _read(self, text: str) -> FieldValues | None:
        """Return the declared fields of a text; without a declaration, the fields it has."""
        if self.fields:
            return read_fields(text, self._declaration())
        try:
            return read_fields(text, parse_declaration(infer_declaration([(text, "")])))
        except ValueError:
            return read_fields(text, ObjectField(()))

    def _declaration(self) -> ObjectField:
        return parse_declaration(self.fields)


def _without_positions(path: str) -> str:
    """Return a path without the positions in lists: `items[0].price` -> `items.price`."""
    return "".join(part.partition("]")[2] if i else part for i, part in enumerate(path.split("[")))
