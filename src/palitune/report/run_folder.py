"""Read a run folder back: its numbers, curves, judged answers and configuration."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from palitune.examples import DataError, Instance, Reference, Size, Value, value_from_json


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a model wrote for one example, and how it was judged."""

    text: str
    value: Value | None
    """None where the text is malformed."""
    scores: dict[str, float]
    """Per-example scores by name, the task's first metric first; NaN where none is defined."""


@dataclass(frozen=True, kw_only=True)
class Judged:
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
    after: Answer
    before: Answer | None

    @property
    def draws_boxes(self) -> bool:
        return not any(isinstance(item, str) for item in self.reference)


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """Everything a run wrote down; what it did not write is empty."""

    path: Path
    metrics: dict[str, Any]
    written: datetime
    """When `metrics.json` was written, local time."""
    configuration: str
    """`config.yaml` as it stands."""
    settings: dict[str, Any]
    """`config.yaml` parsed."""
    choices: dict[str, str]
    """The option taken of each configuration group, as the defaults of `config.yaml` list them."""
    environment: dict[str, Any]
    history: tuple[dict[str, float], ...]
    judged: tuple[Judged, ...]
    samples: tuple[dict[str, Any], ...]
    """Lines of `samples.jsonl`: answers sampled on the way, by prompt."""
    skipped: tuple[str, ...]
    remarks: tuple[str, ...]
    """What became of the training, in sentences."""


def read(path: Path) -> RunFolder:
    """Read a run folder; every file but `metrics.json` may be missing.

    Raises DataError where a file is not what it should be.
    """
    metrics = path / "metrics.json"
    if not metrics.is_file():
        raise DataError(
            f"{metrics} does not exist; name the folder that a finetune or evaluate run wrote"
        )
    configuration = _text(path / "config.yaml")
    settings = _yaml(configuration, path / "config.yaml")
    return RunFolder(
        path=path,
        metrics=_object(metrics),
        written=datetime.fromtimestamp(metrics.stat().st_mtime),
        configuration=configuration,
        settings=settings,
        choices=_choices(settings),
        environment=_object(path / "environment.json"),
        history=tuple(_numbers(record) for record in _lines(path / "history.jsonl")),
        judged=tuple(_judged(path)),
        samples=tuple(_lines(path / "samples.jsonl")),
        skipped=tuple(_text(path / "skipped.txt").splitlines()),
        remarks=tuple(_object(path / "training.json").get("remarks", [])),
    )


def read_settings(path: Path) -> dict[str, Any]:
    """Read the configuration of a run folder as plain values; empty where it has none."""
    return _yaml(_text(path / "config.yaml"), path / "config.yaml")


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _object(path: Path) -> dict[str, Any]:
    return _parsed(_text(path) or "{}", str(path))


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if line.strip():
            yield _parsed(line, f"{path}:{number}")


def _parsed(text: str, place: str) -> dict[str, Any]:
    try:
        parsed = json.loads(text)
    except json.JSONDecodeError as mistake:
        raise DataError(f"{place}: not JSON ({mistake}); delete it or run again") from mistake
    if not isinstance(parsed, dict):
        raise DataError(f"{place}: not a JSON object; delete it or run again")
    return parsed


def _yaml(text: str, path: Path) -> dict[str, Any]:
    import yaml  # type: ignore[import-untyped]

    try:
        parsed = yaml.safe_load(text)
    except yaml.YAMLError as mistake:
        raise DataError(f"{path}: not YAML; delete it or run again") from mistake
    return parsed if isinstance(parsed, dict) else {}


def _choices(settings: dict[str, Any]) -> dict[str, str]:
    """Read `defaults: [override /model: tiny]` as `{"model": "tiny"}`."""
    overrides = [item for item in settings.get("defaults", []) if isinstance(item, dict)]
    return {
        str(group).removeprefix("override /"): str(option)
        for override in overrides
        for group, option in override.items()
    }


def _numbers(record: dict[str, Any]) -> dict[str, float]:
    return {name: float(v) for name, v in record.items() if isinstance(v, (int, float))}


def _judged(path: Path) -> Iterator[Judged]:
    before = {_key(record): _answer(record) for record in _lines(path / "predictions_before.jsonl")}
    place = path / "predictions.jsonl"
    for number, record in enumerate(_lines(place), start=1):
        try:
            yield Judged(
                id=record["id"],
                part=record["part"],
                images=tuple(record["images"]),
                size=(record["size"][0], record["size"][1]),
                prefix=record["prefix"],
                suffixes=tuple(record.get("suffixes", ())),
                attributes=record.get("attributes", {}),
                reference=value_from_json(record["reference"]),
                after=_answer(record),
                before=before.get(_key(record)),
            )
        except (KeyError, IndexError, TypeError) as mistake:
            raise DataError(
                f"{place}: record {number} lacks {mistake}; run the evaluation again"
            ) from mistake


def _key(record: dict[str, Any]) -> tuple[str, str, str]:
    return record["part"], record["id"], record["prefix"]


def _answer(record: dict[str, Any]) -> Answer:
    scores = {name: float("nan") if s is None else s for name, s in record["scores"].items()}
    return Answer(text=record["text"], value=value_from_json(record["prediction"]), scores=scores)


def objects(value: Value | Reference | None) -> tuple[Instance, ...]:
    """The instances of a value; none where it is text or malformed."""
    return tuple(item for item in value or () if isinstance(item, Instance))
