"""Folders of checkpoints that are there whole or not at all, whenever the machine stops.

A checkpoint is written aside, forced to the disk with the checksums of its files, and renamed.
"""

import hashlib
import json
import logging
import math
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError

from palitune.errors import TrainingError
from palitune.paths import write_atomically

_log = logging.getLogger(__name__)

MANIFEST = "checkpoint.json"
"""Says when a checkpoint was written, and the checksum of every other file; written last."""


class CheckpointManager:
    """The checkpoints of one run, `checkpoint-STEP` each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, step: int) -> Path:
        return self.folder / f"checkpoint-{step}"

    def save(self, step: int, write_files: Callable[[Path], None]) -> None:
        """Have `fill` write the files of a step into a new folder, and put it in its place.

        Raises TrainingError where the disk does not take it; older checkpoints then stay.
        """
        try:
            self.delete_incomplete()
            with write_atomically(self.path(step)) as temporary:
                temporary.mkdir()
                write_files(temporary)
                _write_manifest(temporary)
                self._delete(self.path(step))
            _fsync(self.folder)
        except (OSError, SafetensorError) as fault:
            raise TrainingError(
                f"{self.path(step)} could not be written ({fault}); free space, or keep less with "
                "training.keep_checkpoints=1"
            ) from fault

    def prune(self, num_newest: int, best_step: int | None) -> None:
        """Delete all but the newest readable ones and that of the best step."""
        found = self.list_newest_first()
        kept = [one for one in found if math.isfinite(_write_time(one / MANIFEST))][:num_newest]
        for checkpoint in found:
            if checkpoint not in kept and checkpoint != (
                best_step is not None and self.path(best_step)
            ):
                self._delete(checkpoint)

    def list_newest_first(self) -> list[Path]:
        """All checkpoints that have a manifest, the one that was written last first."""
        found = self.folder.glob(f"checkpoint-*/{MANIFEST}")
        written = {manifest.parent: _write_time(manifest) for manifest in found}
        return sorted(written, key=lambda checkpoint: written[checkpoint], reverse=True)

    def latest_valid(self) -> Path | None:
        """The newest checkpoint whose checksums are right; each newer one is told in the log.

        None where there is no checkpoint. Raises TrainingError where there are, and none is whole.
        """
        faults: list[str] = []
        for checkpoint in self.list_newest_first():
            fault = validate_checkpoint(checkpoint)
            if fault is None:
                for newer in faults:
                    _log.warning("%s; going on from %s instead", newer, checkpoint.name)
                return checkpoint
            faults.append(fault)
        if faults:
            raise TrainingError(
                f"no checkpoint in {self.folder} is whole: {'; '.join(faults)}; begin anew with "
                "training.resume=null"
            )
        return None

    def describe_latest(self) -> str:
        """Name the checkpoint that a run which ended early can go on from."""
        kept = self.list_newest_first()
        return f"the last good checkpoint is {kept[0]}" if kept else "there is no checkpoint yet"

    def _delete(self, checkpoint: Path) -> None:
        """Delete a checkpoint so that no part of it is ever taken for one."""
        if checkpoint.exists():
            aside = self.folder / f".{checkpoint.name}.old"
            shutil.rmtree(aside, ignore_errors=True)
            checkpoint.rename(aside)
            shutil.rmtree(aside, ignore_errors=True)

    def delete_incomplete(self) -> None:
        """Delete what a process left that was killed while it wrote or deleted."""
        for left in self.folder.glob(".checkpoint-*"):
            shutil.rmtree(left, ignore_errors=True)


def validate_checkpoint(checkpoint: Path) -> str | None:
    """Say what is wrong with a checkpoint; None where every file is as it was written."""
    try:
        files = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8"))["files"]
        for name, sum_then in files.items():
            if _sha256(checkpoint / name) != sum_then:
                return f"{checkpoint / name} is damaged: its checksum is another"
    except FileNotFoundError as missing:
        return f"{missing.filename} is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"{checkpoint} cannot be read"
    return None


def _write_manifest(folder: Path) -> None:
    """Force every file to the disk, with a manifest of their checksums."""
    sums = {file.name: _sha256(file) for file in sorted(folder.iterdir())}
    told = json.dumps({"written": time.time(), "files": sums}, indent=2)
    (folder / MANIFEST).write_text(told + "\n", encoding="utf-8")
    for file in folder.iterdir():
        _fsync(file)
    _fsync(folder)


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _fsync(path: Path) -> None:
    """Have the disk hold a file, or the names in a folder, before anything else is done."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _write_time(manifest: Path) -> float:
    """When a checkpoint was written; one that does not tell may be the newest of all."""
    try:
        return float(json.loads(manifest.read_text(encoding="utf-8"))["written"])
    except (OSError, ValueError, KeyError, TypeError):
        return float("inf")
