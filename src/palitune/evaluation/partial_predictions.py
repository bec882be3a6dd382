"""The partial `predictions.jsonl` of a running evaluation, from which an interrupted one resumes.

Each line has an `origin`: a digest of everything that determines the prediction. The finished file,
written after scoring, has no origin and is never resumed.
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
from palitune.codec.parsing import parse_json
from palitune.errors import DataError
from palitune.evaluation.config import EvaluationConfig
from palitune.records import Example, Prediction, prediction_from_json, prediction_to_json

if TYPE_CHECKING:
    from palitune.data.dataset import TaskDataset

log = logging.getLogger(__name__)

PREDICTIONS_FILE = "predictions.jsonl"

_SETTINGS_NOT_IN_SIGNATURE = {
    "split", "max_samples", "batch_size", "num_workers", "image_cache", "bootstrap_samples",
    "slices", "submission", "deduplicate", "duplicate_iou",
}  # fmt: skip
"""Settings that do not change a prediction; the split is part of the examples."""


def run_signature(
    datasets: "Sequence[TaskDataset]", settings: EvaluationConfig, model_settings: Sequence[Any]
) -> str:
    """Return a digest of everything that determines the predictions.

    Args:
        datasets: Evaluated datasets with their tasks.
        settings: Evaluation settings.
        model_settings: Settings of model and adapter. Files in the folder of their `path` count by
            size and modification time.
    """
    content = {
        "version": __version__,
        "examples": [[dataset.name, dataset.examples.folder.name] for dataset in datasets],
        "tasks": [asdict(dataset.task) for dataset in datasets],
        "evaluation": {
            k: v for k, v in asdict(settings).items() if k not in _SETTINGS_NOT_IN_SIGNATURE
        },
        "made_with": [[type(s).__name__, asdict(s), _file_stats(s)] for s in model_settings],
    }
    return sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _file_stats(settings: Any) -> list[tuple[str, int, int]]:
    folder = Path(getattr(settings, "path", None) or os.devnull)
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return [(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files]


class PredictionCache:
    """The predictions of an evaluation so far, by dataset name and example id."""

    def __init__(self, file: Path, signature: str) -> None:
        """Read the partial file of an interrupted evaluation, if there is one.

        Raises DataError if it has another signature or is not JSON lines.
        """
        self.file, self.signature = file, signature
        self.predictions: dict[str, dict[str, Prediction]] = {}
        for record in _read_records(file, signature):
            try:
                prediction = prediction_from_json(record)
                self.predictions.setdefault(record["part"], {})[prediction.id] = prediction
            except (KeyError, TypeError, ValueError) as error:
                raise DataError(
                    f"{file}: a record is damaged ({error}). Delete the file or set another "
                    "output_dir."
                ) from error
        if count := sum(map(len, self.predictions.values())):
            log.info("resuming with %d predictions from %s", count, file)

    def add(
        self, component: str, examples: Sequence[Example], predictions: Sequence[Prediction]
    ) -> None:
        """Append predictions to the file."""
        mode = "a" if any(self.predictions.values()) else "w"
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open(mode, encoding="utf-8") as file:
            for example, prediction in zip(examples, predictions, strict=True):
                record = prediction_to_json(prediction, example, component)
                record["origin"] = self.signature
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
        by_id = {prediction.id: prediction for prediction in predictions}
        self.predictions.setdefault(component, {}).update(by_id)


def open_cache(
    run_folder: str,
    datasets: "Sequence[TaskDataset]",
    settings: EvaluationConfig,
    model_settings: Sequence[Any],
) -> PredictionCache:
    """Open the partial predictions of a run folder; the arguments are those of `run_signature`.

    Raises DataError if they were generated with other arguments.
    """
    signature = run_signature(datasets, settings, model_settings)
    return PredictionCache(Path(run_folder) / PREDICTIONS_FILE, signature)


def _read_records(file: Path, signature: str) -> list[dict[str, Any]]:
    """Return the records of an interrupted evaluation, none if there is no such file.

    An incomplete last line is removed from the file.
    """
    if not file.is_file():
        return []
    content = file.read_bytes()
    complete = content[: content.rfind(b"\n") + 1]
    try:
        records = [parse_json(line) for line in complete.splitlines()]
        origins = {record.get("origin") for record in records}
    except (ValueError, AttributeError) as error:
        raise DataError(
            f"{file} is not a JSON lines file ({error}). Delete it or set another output_dir."
        ) from error
    if not records or origins == {None}:
        return []
    if origins != {signature}:
        raise DataError(
            f"{file} is part of an evaluation with another model, adapter, data, task or setting. "
            "Resume that evaluation, delete the file, or set another output_dir."
        )
    if len(complete) < len(content):
        file.write_bytes(complete)
    return records
