"""The setting `min_score`: a number, or the thresholds stored with an adapter."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from palitune.codec.parsing import parse_json
from palitune.errors import DataError
from palitune.models.adapters.config import adapter_folder
from palitune.records import Instance, Value

AUTO = "auto"
"""Value of `min_score` for the thresholds stored with the adapter."""
THRESHOLDS_FILE = "thresholds.json"


@dataclass(frozen=True)
class ScoreThresholds:
    """The lowest score of the objects that are kept."""

    overall: float = 0.0
    classes: Mapping[str, float] = field(default_factory=dict)
    """Thresholds of the classes that have one of their own."""

    def keep(self, value: Value | None) -> Value | None:
        """Leave out the objects of a value with a lower score; objects without a score stay."""
        if value is None or isinstance(value, str):
            return value
        return tuple(
            item
            for item in value
            if not isinstance(item, Instance)
            or item.score is None
            or item.score >= self.classes.get(item.label, self.overall)
        )

    def describe(self) -> str:
        if not self.classes:
            return f"min_score: {self.overall:.3f} for all classes"
        low, high = min(self.classes.values()), max(self.classes.values())
        return (
            f"min_score: {low:.3f} to {high:.3f} for {len(self.classes)} classes, "
            f"{self.overall:.3f} for others"
        )


ALL_OBJECTS = ScoreThresholds()


def check_min_score(value: Any) -> None:
    """Raise ValueError if a value of `min_score` is neither auto nor a number in [0, 1]."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if value != AUTO and not (is_number and 0 <= value <= 1):
        raise ValueError(
            f"min_score must be auto or a number from 0 to 1, got {value!r}. Set min_score=auto."
        )


def resolve_min_score(value: Any, adapter_path: str | None, task: str) -> ScoreThresholds:
    """Return the thresholds of a value of `min_score`.

    Args:
        value: auto or a number.
        adapter_path: Folder of the adapter; None for the base model.
        task: Name of the task that parses the answers.

    Raises:
        DataError: The value is auto, and the adapter has no thresholds for the task.
    """
    if value != AUTO:
        return ScoreThresholds(float(value))
    if adapter_path is None:
        raise DataError(
            "min_score=auto needs thresholds, and the base model has none. Set min_score to a "
            "number, or an adapter."
        )
    parts = [part for part in _read_parts(adapter_path) if part["task"] == task]
    usable = [part for part in parts if part["overall"]["threshold"] is not None]
    if not usable:
        raise _no_thresholds(adapter_path, f"has none of the task {task}")
    by_size = sorted(usable, key=lambda part: int(part["overall"]["objects"]))
    classes: dict[str, tuple[int, float]] = {}
    for part in usable:
        for label, point in part["classes"].items():
            if point["threshold"] is not None:
                largest = max(classes.get(label, (0, 0.0)), (point["objects"], point["threshold"]))
                classes[label] = largest
    return ScoreThresholds(
        float(by_size[-1]["overall"]["threshold"]),
        {label: threshold for label, (_, threshold) in classes.items()},
    )


def _read_parts(adapter_path: str) -> list[dict[str, Any]]:
    """Return the thresholds of every data set. Raises DataError if the file is missing or bad."""
    file = Path(adapter_folder(adapter_path)).expanduser() / THRESHOLDS_FILE
    if not file.is_file():
        raise _no_thresholds(adapter_path, f"has no {THRESHOLDS_FILE}")
    try:
        parts = list(parse_json(file.read_text(encoding="utf-8"))["parts"].values())
        for part in parts:
            for point in (part["overall"], *part["classes"].values()):
                _check_point(point)
            str(part["task"])
    except (OSError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{file}: invalid thresholds ({type(error).__name__}: {error}). Write them again with "
            "palitune evaluate store_thresholds=true."
        ) from error
    return parts


def _check_point(point: Mapping[str, Any]) -> None:
    threshold, objects = point["threshold"], point["objects"]
    if threshold is not None and not 0 <= threshold <= 1:
        raise ValueError(f"threshold must be in [0, 1], got {threshold}")
    if type(objects) is not int:
        raise ValueError(f"objects must be a whole number, got {objects!r}")


def _no_thresholds(adapter_path: str, problem: str) -> DataError:
    return DataError(
        f"min_score=auto needs thresholds, and the adapter {adapter_path} {problem}. Set min_score "
        f"to a number, or run palitune evaluate adapter.path={adapter_path} data=... "
        "evaluation.split=validation store_thresholds=true."
    )
