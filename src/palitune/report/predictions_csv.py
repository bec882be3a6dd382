"""Predicted fields of documents as a table, a row per document.

Every field has a column for its value and one for its confidence; entries of lists have columns of
their own, `items[0].price`. The order of columns is that of the fields in the predictions.
"""

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PREDICTIONS_CSV = "predictions.csv"
_CONFIDENCE = " (confidence)"


@dataclass
class FieldTable:
    """Rows of the table."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    paths: dict[str, None] = field(default_factory=dict)
    """Columns of the fields, in order."""

    def add(
        self,
        example_id: str,
        images: Iterable[str],
        value: object,
        confidences: Mapping[str, float],
        repairs: Iterable[str],
    ) -> None:
        """Add a prediction; one that is not a JSON object is a row without fields.

        Args:
            example_id: Id of the example.
            images: Paths of its images.
            value: JSON text of the predicted fields.
            confidences: Confidence of each field, by path.
            repairs: Repairs of the generated text.
        """
        values = flatten(parse_object(value) or {})
        self.paths |= dict.fromkeys(values)
        self.rows.append(
            {
                "id": example_id,
                "images": " ".join(images),
                "malformed": "; ".join(repairs) or ("" if values else "no fields"),
                **{path: _to_cell(each) for path, each in values.items()},
                **{f"{path}{_CONFIDENCE}": f"{each:.4f}" for path, each in confidences.items()},
            }
        )

    def write(self, folder: Path) -> None:
        """Write `predictions.csv` unless no prediction has a field."""
        if not self.paths:
            return
        columns = [name for path in self.paths for name in (path, f"{path}{_CONFIDENCE}")]
        with (folder / PREDICTIONS_CSV).open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(
                file, ["id", "images", "malformed", *columns], extrasaction="ignore"
            )
            writer.writeheader()
            writer.writerows(self.rows)


def parse_object(value: object) -> dict[str, Any] | None:
    """Return the object of a JSON text; None for any other value."""
    if not isinstance(value, str) or not value.startswith("{"):
        return None
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, dict) else None


def flatten(value: Any, path: str = "") -> dict[str, Any]:
    """Return the single values of a JSON value by path: `items[0].price`."""
    if isinstance(value, dict):
        inner = [(f"{path}.{name}" if path else name, each) for name, each in value.items()]
    elif isinstance(value, list):
        inner = [(f"{path}[{number}]", each) for number, each in enumerate(value)]
    else:
        return {path: value}
    return {leaf: each for name, child in inner for leaf, each in flatten(child, name).items()}


def _to_cell(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def format_confidences(confidences: Mapping[str, float]) -> str:
    """Return the confidences of fields in one line, the least confident first."""
    ordered = sorted(confidences.items(), key=lambda entry: entry[1])
    return ", ".join(f"{path} {confidence:.2f}" for path, confidence in ordered)
