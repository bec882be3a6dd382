"""Read a run folder: metrics, training history, scored predictions and configuration."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from palitune.codec.parsing import check_yaml, parse_json
from palitune.errors import DataError
from palitune.records import (
    Example,
    Instance,
    Prediction,
    Reference,
    Size,
    Value,
    field_confidences_from_json,
    repairs_from_json,
    value_from_json,
)

_INVALID_RECORD = (AttributeError, IndexError, KeyError, TypeError, ValueError)
"""Errors raised for a record that another program wrote or that is damaged."""


@dataclass(frozen=True, kw_only=True)
class ScoredPrediction:
    """Generated text of one example with its parsed value and scores."""

    text: str
    value: Value | None
    """None if the text is malformed."""
    scores: dict[str, float]
    """Scores by name, the main metric of the task first; NaN if undefined for this example."""
    field_confidences: dict[str, float] = field(default_factory=dict)
    """Confidence of every field of a JSON answer, by path."""
    repairs: tuple[str, ...] = ()
    """Repairs of a JSON answer."""


@dataclass(frozen=True, kw_only=True)
class EvaluatedExample:
    """One example with the prediction after training and, if available, before it."""

    id: str
    part: str
    images: tuple[str, ...]
    size: Size
    prefix: str
    suffixes: tuple[str, ...] = ()
    """Acceptable target texts; empty in files of older versions."""
    attributes: dict[str, str] = field(default_factory=dict)
    reference: Reference
    after: ScoredPrediction
    before: ScoredPrediction | None

    @property
    def draws_boxes(self) -> bool:
        return not any(isinstance(item, str) for item in self.reference)

    def to_records(self, side: ScoredPrediction | None) -> tuple[Example, Prediction]:
        """Return example and prediction as metrics take them; None is a malformed prediction."""
        example = Example(
            id=self.id,
            images=self.images,
            size=self.size,
            prefix=self.prefix,
            suffixes=self.suffixes,
            reference=self.reference,
            location=f"example {self.id}",
            component=self.part,
            attributes=self.attributes,
        )
        if side is None:
            return example, Prediction(id=self.id, text="", value=None)
        return example, Prediction(
            id=self.id, text=side.text, value=side.value, repairs=side.repairs
        )


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """Content of a run folder; a missing file is empty."""

    path: Path
    metrics: dict[str, Any]
    finished_at: datetime
    """Local time at which `metrics.json` was written."""
    config_yaml: str
    """Text of `config.yaml`."""
    config: dict[str, Any]
    """`config.yaml` parsed."""
    config_choices: dict[str, str]
    """Chosen option of each configuration group, from the defaults in `config.yaml`."""
    environment: dict[str, Any]
    history: tuple[dict[str, float], ...]
    speed: tuple[dict[str, float], ...]
    """Samples per second and memory by step."""
    examples: tuple[EvaluatedExample, ...]
    samples: tuple[dict[str, Any], ...]
    """Lines of `samples.jsonl`: completions sampled during alignment, by prompt."""
    skipped: tuple[str, ...]
    training_notes: tuple[str, ...]
    """Remarks about the training, in sentences."""


def read_run_folder(path: Path) -> RunFolder:
    """Read a run folder; every file except `metrics.json` may be missing.

    Raises:
        DataError: `metrics.json` is missing or a file cannot be read.
    """
    metrics = path / "metrics.json"
    if not metrics.is_file():
        raise DataError(
            f"{metrics} does not exist; give the output folder of a finetune or evaluate run"
        )
    configuration = _read_text(path / "config.yaml")
    settings = _parse_yaml(configuration, path / "config.yaml")
    return RunFolder(
        path=path,
        metrics=_read_json(metrics),
        finished_at=datetime.fromtimestamp(metrics.stat().st_mtime),
        config_yaml=configuration,
        config=settings,
        config_choices=_parse_config_choices(settings),
        environment=_read_json(path / "environment.json"),
        history=tuple(_numeric_values(record) for record in _read_jsonl(path / "history.jsonl")),
        speed=tuple(_numeric_values(record) for record in _read_jsonl(path / "speed.jsonl")),
        examples=tuple(read_examples(path)),
        samples=tuple(_read_jsonl(path / "samples.jsonl")),
        skipped=tuple(_read_text(path / "skipped.txt").splitlines()),
        training_notes=tuple(_read_json(path / "training.json").get("remarks", [])),
    )


def read_config(path: Path) -> dict[str, Any]:
    """Read the configuration of a run folder as plain values; empty if it has none."""
    return _parse_yaml(_read_text(path / "config.yaml"), path / "config.yaml")


def _read_text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _read_json(path: Path) -> dict[str, Any]:
    return _parse_json_object(_read_text(path) or "{}", str(path))


def _read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(_read_text(path).split("\n"), start=1):
        if line.strip():
            yield _parse_json_object(line, f"{path}:{number}")


def _parse_json_object(text: str, location: str) -> dict[str, Any]:
    try:
        parsed = parse_json(text, allow_surrogates=True)  # pages escape them
    except ValueError as error:
        raise DataError(f"{location}: not JSON ({error}); delete it or run again") from error
    if not isinstance(parsed, dict):
        raise DataError(f"{location}: not a JSON object; delete it or run again")
    return parsed


def _parse_yaml(text: str, path: Path) -> dict[str, Any]:
    import yaml  # type: ignore[import-untyped]

    try:
        check_yaml(text)
        parsed = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: not YAML ({reason}); delete it or run again") from error
    return parsed if isinstance(parsed, dict) else {}


def _parse_config_choices(config: dict[str, Any]) -> dict[str, str]:
    """Read `defaults: [override /model: tiny]` as `{"model": "tiny"}`."""
    overrides = [item for item in config.get("defaults", []) if isinstance(item, dict)]
    return {
        str(group).removeprefix("override /"): str(option)
        for override in overrides
        for group, option in override.items()
    }


def _numeric_values(record: dict[str, Any]) -> dict[str, float]:
    return {name: float(v) for name, v in record.items() if isinstance(v, (int, float))}


def read_examples(path: Path) -> Iterator[EvaluatedExample]:
    """Yield the examples of a run folder. Raises DataError for an invalid record."""
    before_file, file = path / "predictions_before.jsonl", path / "predictions.jsonl"
    before = {}
    for number, record in enumerate(_read_jsonl(before_file), start=1):
        try:
            before[_record_key(record)] = _to_prediction(record)
        except _INVALID_RECORD as error:
            raise _record_error(before_file, number, error) from error
    for number, record in enumerate(_read_jsonl(file), start=1):
        try:
            yield EvaluatedExample(
                id=record["id"],
                part=record["part"],
                images=tuple(record["images"]),
                size=_to_size(record),
                prefix=record["prefix"],
                suffixes=tuple(record.get("suffixes", ())),
                attributes=record.get("attributes", {}),
                reference=value_from_json(record["reference"], _to_size(record)),
                after=_to_prediction(record),
                before=before.get(_record_key(record)),
            )
        except _INVALID_RECORD as error:
            raise _record_error(file, number, error) from error


def _to_size(record: dict[str, Any]) -> Size:
    width, height = record["size"]
    return width, height


def _record_error(file: Path, number: int, error: Exception) -> DataError:
    cause = f"has no {error}" if isinstance(error, KeyError) else f"is invalid ({error})"
    return DataError(f"{file}: record {number} {cause}; run the evaluation again")


def _record_key(record: dict[str, Any]) -> tuple[str, str, str]:
    return record["part"], record["id"], record["prefix"]


def _to_prediction(record: dict[str, Any]) -> ScoredPrediction:
    scores = {name: float("nan") if s is None else s for name, s in record["scores"].items()}
    return ScoredPrediction(
        text=record["text"],
        value=value_from_json(record["prediction"], _to_size(record)),
        scores=scores,
        field_confidences=field_confidences_from_json(record.get("field_confidences")),
        repairs=repairs_from_json(record.get("repairs")),
    )


def get_instances(value: Value | Reference | None) -> tuple[Instance, ...]:
    """Return the instances of a value; empty if it is text or malformed."""
    return tuple(item for item in value or () if isinstance(item, Instance))
