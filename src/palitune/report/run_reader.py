"""Read a run folder back: its numbers, curves, judged answers and configuration."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from palitune.errors import DataError
from palitune.records import Instance, Reference, Size, Value, value_from_json


@dataclass(frozen=True, kw_only=True)
class ScoredPrediction:
    """What a model wrote for one example, and how it was judged."""

    text: str
    value: Value | None
    """None where the text is malformed."""
    scores: dict[str, float]
    """Per-example scores by name, the task's first metric first; NaN where none is defined."""


@dataclass(frozen=True, kw_only=True)
class EvaluatedExample:
    """One example with the model's answer after adaptation and, where known, before it."""

    id: str
    part: str
    images: tuple[str, ...]
    size: Size
    prefix: str
    suffixes: tuple[str, ...] = ()
    """What the model was to write: each acceptable target; none where no file tells it."""
    attributes: dict[str, str] = field(default_factory=dict)
    reference: Reference
    after: ScoredPrediction
    before: ScoredPrediction | None

    @property
    def draws_boxes(self) -> bool:
        return not any(isinstance(item, str) for item in self.reference)


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """Everything a run wrote down; what it did not write is empty."""

    path: Path
    metrics: dict[str, Any]
    finished_at: datetime
    """When `metrics.json` was written, local time."""
    config_yaml: str
    """`config.yaml` as it stands."""
    config: dict[str, Any]
    """`config.yaml` parsed."""
    config_choices: dict[str, str]
    """The option taken of each configuration group, as the defaults of `config.yaml` list them."""
    environment: dict[str, Any]
    history: tuple[dict[str, float], ...]
    examples: tuple[EvaluatedExample, ...]
    samples: tuple[dict[str, Any], ...]
    """Lines of `samples.jsonl`: answers sampled on the way, by prompt."""
    skipped: tuple[str, ...]
    training_notes: tuple[str, ...]
    """What became of the training, in sentences."""


def read_run_folder(path: Path) -> RunFolder:
    """Read a run folder; every file but `metrics.json` may be missing.

    Raises DataError where a file is not what it should be.
    """
    metrics = path / "metrics.json"
    if not metrics.is_file():
        raise DataError(
            f"{metrics} does not exist; name the folder that a finetune or evaluate run wrote"
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
        examples=tuple(_read_examples(path)),
        samples=tuple(_read_jsonl(path / "samples.jsonl")),
        skipped=tuple(_read_text(path / "skipped.txt").splitlines()),
        training_notes=tuple(_read_json(path / "training.json").get("remarks", [])),
    )


def read_config(path: Path) -> dict[str, Any]:
    """Read the configuration of a run folder as plain values; empty where it has none."""
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
        parsed = json.loads(text)
    except json.JSONDecodeError as mistake:
        raise DataError(f"{location}: not JSON ({mistake}); delete it or run again") from mistake
    if not isinstance(parsed, dict):
        raise DataError(f"{location}: not a JSON object; delete it or run again")
    return parsed


def _parse_yaml(text: str, path: Path) -> dict[str, Any]:
    import yaml  # type: ignore[import-untyped]

    try:
        parsed = yaml.safe_load(text)
    except yaml.YAMLError as mistake:
        raise DataError(f"{path}: not YAML; delete it or run again") from mistake
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


def _read_examples(path: Path) -> Iterator[EvaluatedExample]:
    before = {
        _record_key(record): _to_prediction(record)
        for record in _read_jsonl(path / "predictions_before.jsonl")
    }
    place = path / "predictions.jsonl"
    for number, record in enumerate(_read_jsonl(place), start=1):
        try:
            yield EvaluatedExample(
                id=record["id"],
                part=record["part"],
                images=tuple(record["images"]),
                size=(record["size"][0], record["size"][1]),
                prefix=record["prefix"],
                suffixes=tuple(record.get("suffixes", ())),
                attributes=record.get("attributes", {}),
                reference=value_from_json(record["reference"]),
                after=_to_prediction(record),
                before=before.get(_record_key(record)),
            )
        except (KeyError, IndexError, TypeError) as mistake:
            raise DataError(
                f"{place}: record {number} lacks {mistake}; run the evaluation again"
            ) from mistake


def _record_key(record: dict[str, Any]) -> tuple[str, str, str]:
    return record["part"], record["id"], record["prefix"]


def _to_prediction(record: dict[str, Any]) -> ScoredPrediction:
    scores = {name: float("nan") if s is None else s for name, s in record["scores"].items()}
    return ScoredPrediction(
        text=record["text"], value=value_from_json(record["prediction"]), scores=scores
    )


def get_instances(value: Value | Reference | None) -> tuple[Instance, ...]:
    """The instances of a value; none where it is text or malformed."""
    return tuple(item for item in value or () if isinstance(item, Instance))
