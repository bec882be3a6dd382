"""Measured training steps: the JSON files that `benchmarks/gpu.py` writes, named after the card."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palitune.codec.parsing import parse_json
from palitune.errors import DataError
from palitune.paths import resource_dir
from palitune.planning.gpus import card_of_device

FOLDER = "benchmarks/results"
_PART = "finetune"


@dataclass(frozen=True)
class MeasuredStep:
    """A training step of one micro-batch with random weights of a released size."""

    device: str
    """Name of the card as torch reports it."""
    line: str
    """Model, resolution, adapter and rows."""
    samples_per_second: float
    peak_gib: float
    """Peak memory that torch allocated, weights included."""
    stock_ratio: float | None
    """Speed relative to transformers with PEFT; None if that was not measured."""


def load_measurements(folder: Path | None = None) -> list[MeasuredStep]:
    """Return all measured training steps, in the order of the files' names.

    Args:
        folder: Folder of the files; None: the measurements that are part of this version.

    Raises:
        DataError: A file was not written by `benchmarks/gpu.py`.
    """
    files = sorted((folder or resource_dir(FOLDER)).glob("*.json"))
    return [step for file in files for step in _read(file)]


def measurements_of(card: str, folder: Path | None = None) -> list[MeasuredStep]:
    """Return the measured training steps of a card of the planner's table.

    Args:
        card: Name in `CARDS`.
        folder: Folder of the files; None: the measurements that are part of this version.
    """
    return [step for step in load_measurements(folder) if _is_card(step.device, card)]


def _is_card(device: str, card: str) -> bool:
    found = card_of_device(device)
    return found is not None and found.name == card


def _read(file: Path) -> list[MeasuredStep]:
    try:
        content = parse_json(file.read_text(encoding="utf-8"))
        device = str(content["environment"]["device"])
        rows = [row for row in content["rows"] if row["part"] == _PART and not row["error"]]
        return [_step(device, row["line"], row["values"]) for row in rows]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{file} must be a file of benchmarks/gpu.py ({error}). Run it again, or remove the "
            "file."
        ) from error


def _step(device: str, line: str, values: dict[str, Any]) -> MeasuredStep:
    stock = values.get("stock ms/step")
    return MeasuredStep(
        device,
        line,
        float(values["samples/s"]),
        float(values["peak GiB"]),
        None if stock is None else float(stock) / float(values["ms/step"]),
    )
