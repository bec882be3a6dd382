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

from palitune.training.faults import TrainingError

_log = logging.getLogger(__name__)

MANIFEST = "checkpoint.json"
"""Says when a checkpoint was written, and the checksum of every other file; written last."""


class Checkpoints:
    """The checkpoints of one run, `checkpoint-STEP` each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def of(self, step: int) -> Path:
        return self.folder / f"checkpoint-{step}"

    def write(self, step: int, fill: Callable[[Path], None]) -> None:
        """Have `fill` write the files of a step into a new folder, and put it in its place.

        Raises TrainingError where the disk does not take it; older checkpoints then stay.
        """
        aside = self.folder / f".{self.of(step).name}.new"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.clear()
            aside.mkdir()
            fill(aside)
            _seal(aside)
            self._drop(self.of(step))
            aside.rename(self.of(step))
            _force(self.folder)
        except (OSError, SafetensorError) as fault:
            shutil.rmtree(aside, ignore_errors=True)
            raise TrainingError(
                f"{self.of(step)} could not be written ({fault}); free space, or keep less with "
                "training.keep_checkpoints=1"
            ) from fault

    def keep(self, newest: int, best: int | None) -> None:
        """Delete all but the newest readable ones and that of the best step."""
        found = self.newest_first()
        kept = [one for one in found if math.isfinite(_written(one / MANIFEST))][:newest]
        for checkpoint in found:
            if checkpoint not in kept and checkpoint != (best is not None and self.of(best)):
                self._drop(checkpoint)

    def newest_first(self) -> list[Path]:
        """All checkpoints that have a manifest, the one that was written last first."""
        found = self.folder.glob(f"checkpoint-*/{MANIFEST}")
        written = {manifest.parent: _written(manifest) for manifest in found}
        return sorted(written, key=lambda checkpoint: written[checkpoint], reverse=True)

    def newest_whole(self) -> Path | None:
        """The newest checkpoint whose checksums are right; each newer one is told in the log.

        None where there is no checkpoint. Raises TrainingError where there are, and none is whole.
        """
        faults: list[str] = []
        for checkpoint in self.newest_first():
            fault = fault_of(checkpoint)
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

    def said(self) -> str:
        """Name the checkpoint that a run which ended early can go on from."""
        kept = self.newest_first()
        return f"the last good checkpoint is {kept[0]}" if kept else "there is no checkpoint yet"

    def _drop(self, checkpoint: Path) -> None:
        """Delete a checkpoint so that no part of it is ever taken for one."""
        if checkpoint.exists():
            aside = self.folder / f".{checkpoint.name}.old"
            shutil.rmtree(aside, ignore_errors=True)
            checkpoint.rename(aside)
            shutil.rmtree(aside, ignore_errors=True)

    def clear(self) -> None:
        """Delete what a process left that was killed while it wrote or deleted."""
        for left in self.folder.glob(".checkpoint-*"):
            shutil.rmtree(left, ignore_errors=True)


def fault_of(checkpoint: Path) -> str | None:
    """Say what is wrong with a checkpoint; None where every file is as it was written."""
    try:
        files = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8"))["files"]
        for name, sum_then in files.items():
            if _sum(checkpoint / name) != sum_then:
                return f"{checkpoint / name} is damaged: its checksum is another"
    except FileNotFoundError as missing:
        return f"{missing.filename} is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"{checkpoint} cannot be read"
    return None


def _seal(folder: Path) -> None:
    """Force every file to the disk, with a manifest of their checksums."""
    sums = {file.name: _sum(file) for file in sorted(folder.iterdir())}
    told = json.dumps({"written": time.time(), "files": sums}, indent=2)
    (folder / MANIFEST).write_text(told + "\n", encoding="utf-8")
    for file in folder.iterdir():
        _force(file)
    _force(folder)


def _sum(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _force(path: Path) -> None:
    """Have the disk hold a file, or the names in a folder, before anything else is done."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _written(manifest: Path) -> float:
    """When a checkpoint was written; one that does not tell may be the newest of all."""
    try:
        return float(json.loads(manifest.read_text(encoding="utf-8"))["written"])
    except (OSError, ValueError, KeyError, TypeError):
        return float("inf")
