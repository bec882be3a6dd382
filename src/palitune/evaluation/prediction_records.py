"""What was answered to one example, and the line of `predictions.jsonl` that says so.

A line holds what the answer was judged by, so that reading it back gives the same numbers: floats
and masks survive JSON as they are.
"""

import json
from dataclasses import dataclass
from typing import Any

from palitune.evaluation.perplexity import Likelihood
from palitune.records import Example, Value, value_from_json, value_to_json


@dataclass(frozen=True, kw_only=True)
class PredictionRecord:
    """What a model, or whoever wrote a file of predictions, answered to one example."""

    text: str
    """As the model wrote it; empty for objects that a file lists."""
    value: Value | None
    """What the task read out of it; None where it is malformed."""
    finished: bool = True
    """False where it was cut off by `task.max_new_tokens`."""
    confidence: float | None = None
    """Geometric mean of the probabilities of its tokens; of a choice by likelihood, its share among
    all choices; None where nobody says."""
    likelihood: Likelihood | None = None
    """How probable the model finds the references; None where it was not asked."""
    missing: bool = False
    """The file of predictions has none for this example; it counts as an empty one."""


PredictionsByDataset = list[list[PredictionRecord]]
"""Of each part, in the order of its examples; where several processes evaluate, in the first."""


def to_json_record(
    component: str,
    example: Example,
    prediction: PredictionRecord,
    scores: dict[str, float] | None = None,
) -> dict[str, Any]:
    """Write an answer with its example, for `predictions.jsonl`."""
    known = {"confidence": prediction.confidence, "likelihood": prediction.likelihood}
    return {
        "id": example.id,
        "part": component,
        "images": list(example.images),
        "size": list(example.size),
        "prefix": example.prefix,
        "suffixes": list(example.suffixes),
        "attributes": example.attributes,
        "text": prediction.text,
        "prediction": value_to_json(prediction.value),
        "reference": value_to_json(example.reference),
        "scores": scores or {},
        "malformed": prediction.value is None,
        "finished": prediction.finished,
        **{name: value for name, value in known.items() if value is not None},
        **({"missing": True} if prediction.missing else {}),
    }


def from_json_record(record: dict[str, Any]) -> PredictionRecord:
    """Read an answer back. Raises KeyError or TypeError where the record is of another kind."""
    likelihood = record.get("likelihood")
    return PredictionRecord(
        text=record["text"],
        value=value_from_json(record["prediction"]),
        finished=record.get("finished", True),
        confidence=record.get("confidence"),
        likelihood=None if likelihood is None else Likelihood(*likelihood),
        missing=record.get("missing", False),
    )


def to_json_line(record: dict[str, Any]) -> str:
    """Write a record as a line of JSON."""
    return json.dumps(record, ensure_ascii=False) + "\n"
