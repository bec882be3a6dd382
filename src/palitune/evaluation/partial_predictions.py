"""`predictions.jsonl` while an evaluation is under way: what is in it need not be generated again.

Every line carries the origin of its answer: a digest of everything that the answer follows from.
The finished file, written once all answers are judged, has none; it is never gone on with.
"""

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palitune import __version__
from palitune.errors import DataError
from palitune.evaluation.config import EvaluationConfig
from palitune.evaluation.prediction_records import (
    PredictionRecord,
    from_json_record,
    to_json_line,
    to_json_record,
)
from palitune.records import Example

if TYPE_CHECKING:
    from palitune.data.dataset import TaskDataset

log = logging.getLogger(__name__)

PREDICTIONS_FILE = "predictions.jsonl"

_SETTINGS_NOT_IN_SIGNATURE = {
    "split", "max_samples", "batch_size", "num_workers", "image_cache", "bootstrap_samples", "slices", "submission",
    "deduplicate", "duplicate_iou",
}  # fmt: skip
"""Settings that change no answer; the split is told by the examples."""


def run_signature(
    datasets: "Sequence[TaskDataset]", settings: EvaluationConfig, model_settings: Sequence[Any]
) -> str:
    """Digest what answers follow from: examples, tasks, settings, and what loads the network.

    `made_with` are the settings of model and adapter; the files in the folders that they name
    count by size and time.
    """
    told = {
        "version": __version__,
        "examples": [[part.name, part.examples.folder.name] for part in datasets],
        "tasks": [asdict(part.task) for part in datasets],
        "evaluation": {
            k: v for k, v in asdict(settings).items() if k not in _SETTINGS_NOT_IN_SIGNATURE
        },
        "made_with": [
            [type(one).__name__, asdict(one), _file_stats(one)] for one in model_settings
        ],
    }
    written = json.dumps(told, sort_keys=True, default=str)
    return sha256(written.encode()).hexdigest()[:16]


def _file_stats(settings: Any) -> list[tuple[str, int, int]]:
    folder = Path(getattr(settings, "path", None) or os.devnull)
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return [(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files]


class PredictionCache:
    """The answers of one evaluation so far, by part and id."""

    def __init__(self, file: Path, signature: str) -> None:
        """Read what an interrupted evaluation left.

        Raises DataError where it is of another origin, or no longer whole.
        """
        self.file, self.signature = file, signature
        self.predictions: dict[str, dict[str, PredictionRecord]] = {}
        for record in _read_records(file, signature):
            self.predictions.setdefault(record["part"], {})[record["id"]] = from_json_record(record)
        if count := sum(map(len, self.predictions.values())):
            log.info("going on with the %d answers in %s", count, file)

    def add(
        self, component: str, examples: Sequence[Example], predictions: Sequence[PredictionRecord]
    ) -> None:
        """Write some answers, so that they outlive this process."""
        start = not any(self.predictions.values())
        records = (
            to_json_record(component, *pair) for pair in zip(examples, predictions, strict=True)
        )
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("w" if start else "a", encoding="utf-8") as file:
            file.writelines(
                to_json_line({**record, "origin": self.signature}) for record in records
            )
        answered = zip((example.id for example in examples), predictions, strict=True)
        self.predictions.setdefault(component, {}).update(answered)


def _read_records(file: Path, signature: str) -> list[dict[str, Any]]:
    """Return the records of an interrupted evaluation, none where there is no such file.

    A last line that was not written to its end is cut off.
    """
    if not file.is_file():
        return []
    written = file.read_bytes()
    whole = written[: written.rfind(b"\n") + 1]
    try:
        records = [json.loads(text) for text in whole.splitlines()]
        origins = {record.get("origin") for record in records}
    except (ValueError, AttributeError) as mistake:
        raise DataError(
            f"{file}: not lines of JSON ({mistake}); delete it or name another output_dir"
        ) from mistake
    if not records or origins == {None}:
        return []
    if origins != {signature}:
        raise DataError(
            f"{file} is a part of an evaluation with another model, adapter, data, task or "
            "setting; go on with that one, delete the file, or name another output_dir"
        )
    if len(whole) < len(written):
        file.write_bytes(whole)
    return records


def open_prediction_cache(
    output_dir: str,
    datasets: "Sequence[TaskDataset]",
    settings: EvaluationConfig,
    model_settings: Sequence[Any],
) -> "PredictionCache":
    """Open the answers of an evaluation so far; see `palitune.evaluation.partial_predictions`."""
    return PredictionCache(
        Path(output_dir) / PREDICTIONS_FILE, run_signature(datasets, settings, model_settings)
    )
