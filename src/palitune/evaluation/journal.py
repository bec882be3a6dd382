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
from palitune.evaluation.records import Answer, from_record, line, to_record
from palitune.evaluation.settings import Evaluation
from palitune.examples import DataError, Example

if TYPE_CHECKING:
    from palitune.data.dataset import Part

log = logging.getLogger(__name__)

FILE = "predictions.jsonl"

_WITHOUT_EFFECT = {
    "split", "limit", "batch_size", "workers", "image_store", "resamples", "slices", "submission",
    "drop_duplicates", "duplicate_iou",
}  # fmt: skip
"""Settings that change no answer; the split is told by the examples."""


def origin(parts: "Sequence[Part]", settings: Evaluation, made_with: Sequence[Any]) -> str:
    """Digest what answers follow from: examples, tasks, settings, and what loads the network.

    `made_with` are the settings of model and adapter; the files in the folders that they name
    count by size and time.
    """
    told = {
        "version": __version__,
        "examples": [[part.name, part.examples.folder.name] for part in parts],
        "tasks": [asdict(part.task) for part in parts],
        "evaluation": {k: v for k, v in asdict(settings).items() if k not in _WITHOUT_EFFECT},
        "made_with": [[type(one).__name__, asdict(one), _files(one)] for one in made_with],
    }
    written = json.dumps(told, sort_keys=True, default=str)
    return sha256(written.encode()).hexdigest()[:16]


def _files(settings: Any) -> list[tuple[str, int, int]]:
    folder = Path(getattr(settings, "path", None) or os.devnull)
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return [(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files]


class Journal:
    """The answers of one evaluation so far, by part and id."""

    def __init__(self, file: Path, origin: str) -> None:
        """Read what an interrupted evaluation left.

        Raises DataError where it is of another origin, or no longer whole.
        """
        self.file, self.origin = file, origin
        self.known: dict[str, dict[str, Answer]] = {}
        for record in _records(file, origin):
            self.known.setdefault(record["part"], {})[record["id"]] = from_record(record)
        if count := sum(map(len, self.known.values())):
            log.info("going on with the %d answers in %s", count, file)

    def add(self, part: str, examples: Sequence[Example], answers: Sequence[Answer]) -> None:
        """Write some answers, so that they outlive this process."""
        start = not any(self.known.values())
        records = (to_record(part, *pair) for pair in zip(examples, answers, strict=True))
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("w" if start else "a", encoding="utf-8") as file:
            file.writelines(line({**record, "origin": self.origin}) for record in records)
        answered = zip((example.id for example in examples), answers, strict=True)
        self.known.setdefault(part, {}).update(answered)


def _records(file: Path, origin: str) -> list[dict[str, Any]]:
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
    if origins != {origin}:
        raise DataError(
            f"{file} is a part of an evaluation with another model, adapter, data, task or "
            "setting; go on with that one, delete the file, or name another output_dir"
        )
    if len(whole) < len(written):
        file.write_bytes(whole)
    return records
