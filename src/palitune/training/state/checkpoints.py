"""Atomic checkpoints: a crash at any moment leaves a complete checkpoint or none.

A checkpoint is written to a temporary folder, flushed to disk with the checksums of its files, and
renamed.
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
"""Time of writing and checksum of every other file of a checkpoint; written last."""

_STATE_SUFFIXES = (".json", ".safetensors")
"""Files that are read when a run is resumed; others in the folder are ignored."""


class CheckpointManager:
    """The checkpoints of one run, in folders `checkpoint-STEP`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, step: int) -> Path:
        return self.folder / f"checkpoint-{step}"

    def save(self, step: int, write_files: Callable[[Path], None]) -> None:
        """Create the checkpoint of a step with the files that `write_files` writes to a folder.

        Raises TrainingError if the disk is full or fails; older checkpoints are then unchanged.
        """
        try:
            self.delete_incomplete()
            with write_atomically(self.path(step)) as temporary:
                temporary.mkdir()
                write_files(temporary)
                _write_manifest(temporary)
                self._delete(self.path(step))
            _fsync(self.folder)
        except (OSError, SafetensorError) as error:
            raise TrainingError(
                f"{self.path(step)} could not be written ({error}); free space, or keep less with "
                "training.keep_checkpoints=1"
            ) from error

    def prune(self, num_newest: int, best_step: int | None) -> None:
        """Delete all checkpoints except the newest readable ones and that of the best step."""
        checkpoints = self.list_newest_first()
        readable = [path for path in checkpoints if math.isfinite(_write_time(path / MANIFEST))]
        retained = readable[:num_newest]
        if best_step is not None:
            retained.append(self.path(best_step))
        for checkpoint in checkpoints:
            if checkpoint not in retained:
                self._delete(checkpoint)

    def list_newest_first(self) -> list[Path]:
        """Return all checkpoints that have a manifest, newest first by time of writing."""
        manifests = self.folder.glob(f"checkpoint-*/{MANIFEST}")
        return [path.parent for path in sorted(manifests, key=_write_time, reverse=True)]

    def latest_valid(self) -> Path | None:
        """Return the newest checkpoint with correct checksums; log a warning for each newer one.

        Returns None if there are no checkpoints. Raises TrainingError if all are damaged.
        """
        errors: list[str] = []
        for checkpoint in self.list_newest_first():
            error = validate_checkpoint(checkpoint)
            if error is None:
                for newer in errors:
                    _log.warning("%s; resuming from %s instead", newer, checkpoint.name)
                return checkpoint
            errors.append(error)
        if errors:
            raise TrainingError(
                f"All checkpoints in {self.folder} are damaged: {'; '.join(errors)}. Set "
                "training.resume=null to start a new training."
            )
        return None

    def delete_all(self) -> None:
        """Delete the checkpoints of an earlier run in the same folder."""
        for checkpoint in self.list_newest_first():
            self._delete(checkpoint)

    def describe_latest(self) -> str:
        """Name the checkpoint from which a run that ended early can be resumed."""
        checkpoints = self.list_newest_first()
        if not checkpoints:
            return "there is no checkpoint yet"
        return f"the last good checkpoint is {checkpoints[0]}"

    def _delete(self, checkpoint: Path) -> None:
        """Rename a checkpoint before deleting it, so that a partial one is never listed."""
        if checkpoint.exists():
            old = self.folder / f".{checkpoint.name}.old"
            shutil.rmtree(old, ignore_errors=True)
            checkpoint.rename(old)
            shutil.rmtree(old, ignore_errors=True)

    def delete_incomplete(self) -> None:
        """Delete temporary folders of a process that was killed while writing or deleting."""
        for temporary in self.folder.glob(".checkpoint-*"):
            shutil.rmtree(temporary, ignore_errors=True)


def validate_checkpoint(checkpoint: Path) -> str | None:
    """Describe the damage of a checkpoint; None if every file has its checksum."""
    try:
        files = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8"))["files"]
        existing = {file.name for file in checkpoint.iterdir() if file.is_file()}
        if missing := sorted(files.keys() - existing):
            return f"{checkpoint / Path(missing[0]).name} is missing"
        unlisted = existing - files.keys() - {MANIFEST}
        if extra := sorted(name for name in unlisted if Path(name).suffix in _STATE_SUFFIXES):
            return f"{checkpoint / extra[0]} has no checksum"
        for name, checksum in files.items():
            if _sha256(checkpoint / name) != checksum:
                return f"{checkpoint / name} is damaged (wrong checksum)"
    except FileNotFoundError as error:
        return f"{error.filename} is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"{checkpoint} cannot be read"
    return None


def _write_manifest(folder: Path) -> None:
    """Write a manifest with the checksums of all files, and flush everything to disk."""
    checksums = {file.name: _sha256(file) for file in sorted(folder.iterdir())}
    manifest = json.dumps({"written": time.time(), "files": checksums}, indent=2)
    (folder / MANIFEST).write_text(manifest + "\n", encoding="utf-8")
    for file in folder.iterdir():
        _fsync(file)
    _fsync(folder)


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _fsync(path: Path) -> None:
    """Flush a file, or the entries of a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_time(manifest: Path) -> float:
    """Return the time of writing; infinity if unreadable, since it may be the newest."""
    try:
        return float(json.loads(manifest.read_text(encoding="utf-8"))["written"])
    except (OSError, ValueError, KeyError, TypeError):
        return float("inf")
