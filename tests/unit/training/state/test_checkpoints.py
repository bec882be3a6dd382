"""Checkpoints are written atomically, and damage is detected and reported."""

import contextlib
import itertools
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from palitune.errors import TrainingError
from palitune.training.state.checkpoints import MANIFEST, CheckpointManager, validate_checkpoint


class Killed(BaseException):
    """A kill, which no code can handle."""


def writer(text: str) -> Callable[[Path], None]:
    return lambda folder: [(folder / name).write_text(text) for name in "ab"] and None


def steps(checkpoints: CheckpointManager) -> list[int]:
    return sorted(int(path.name.rpartition("-")[2]) for path in checkpoints.list_newest_first())


@pytest.fixture
def checkpoints(tmp_path: Path) -> CheckpointManager:
    return CheckpointManager(tmp_path / "checkpoints")


def interrupt(write: Callable[[], None], moment: int) -> bool:
    """Kill `write` at a call to the file system; return False if it ends before that call.

    `moment` // 2 is the number of the call, which is executed if `moment` is odd.
    """
    calls = 0

    def counted(call: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls != moment // 2 + 1:
            return call(*args, **kwargs)
        with contextlib.suppress(OSError):
            if moment % 2:
                call(*args, **kwargs)
        raise Killed

    def wrapped(call: Any) -> Any:
        return lambda *args, **kwargs: counted(call, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patched:
        for module, name in (
            (os, "fsync"), (os, "mkdir"), (os, "rename"), (os, "replace"), (Path, "write_text"),
            (shutil, "rmtree"),
        ):  # fmt: skip
            patched.setattr(module, name, wrapped(getattr(module, name)))
        try:
            write()
        except Killed:
            return True
    return False


def test_a_kill_at_any_moment_leaves_the_old_or_the_new_checkpoint(tmp_path: Path) -> None:
    texts: list[str] = []

    def write() -> None:
        checkpoints.save(4, writer("new"))
        checkpoints.prune(1, best_step=None)

    for moment in itertools.count():
        checkpoints = CheckpointManager(tmp_path / str(moment))
        checkpoints.save(2, writer("old"))
        if not interrupt(write, moment):
            break
        newest = checkpoints.latest_valid()
        assert newest is not None
        texts.append((newest / "a").read_text())
        assert (newest.name, texts[-1]) in {("checkpoint-2", "old"), ("checkpoint-4", "new")}
        checkpoints.delete_incomplete()
        assert not list(checkpoints.folder.glob(".*"))
        checkpoints.save(4, writer("new"))
        assert checkpoints.latest_valid() == checkpoints.path(4)
    assert texts == sorted(texts, reverse=True)
    assert set(texts) == {"old", "new"}


def truncate(file: Path) -> None:
    file.write_text(file.read_text()[:-3])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: truncate(folder / "a"), "a is damaged (wrong checksum)"),
        (lambda folder: (folder / "b").unlink(), "b is missing"),
        (lambda folder: (folder / "state.json").write_text("{}"), "state.json has no checksum"),
        (
            lambda folder: (folder / MANIFEST).write_text('{"files": {"../../../etc/passwd": ""}}'),
            "passwd is missing",
        ),
        (lambda folder: truncate(folder / MANIFEST), "checkpoint-4 cannot be read"),
        (lambda folder: (folder / MANIFEST).write_text("[]"), "checkpoint-4 cannot be read"),
    ],
)
def test_damage_is_reported_and_the_previous_checkpoint_is_used(
    damage: Callable[[Path], None],
    message: str,
    checkpoints: CheckpointManager,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for step in (2, 4):
        checkpoints.save(step, writer(str(step)))
    damage(checkpoints.path(4))
    assert str(validate_checkpoint(checkpoints.path(4))).endswith(message)
    assert checkpoints.latest_valid() == checkpoints.path(2)
    (warning,) = caplog.messages
    assert warning.endswith(f"{message}; resuming from checkpoint-2 instead")
    truncate(checkpoints.path(2) / "a")
    with pytest.raises(
        TrainingError, match=r"All checkpoints in .* are damaged: .*training\.resume=null"
    ):
        checkpoints.latest_valid()


def test_the_newest_and_the_best_checkpoint_are_kept(checkpoints: CheckpointManager) -> None:
    for step in (1, 2, 3, 4, 5):
        checkpoints.save(step, writer(str(step)))
        checkpoints.prune(2, best_step=2 if step > 1 else None)
    assert steps(checkpoints) == [2, 4, 5]
    checkpoints.prune(1, best_step=5)
    assert steps(checkpoints) == [5]


def test_the_newest_checkpoint_is_the_last_written_not_that_of_the_highest_step(
    checkpoints: CheckpointManager,
) -> None:
    """After resuming from an older checkpoint, higher steps belong to another branch."""
    for step in (2, 4, 6, 3):
        checkpoints.save(step, writer(str(step)))
    assert checkpoints.latest_valid() == checkpoints.path(3)
    checkpoints.prune(2, best_step=None)
    assert steps(checkpoints) == [3, 6]


def test_a_full_disk_leaves_older_checkpoints_unchanged(checkpoints: CheckpointManager) -> None:
    checkpoints.save(2, writer("old"))

    def full(folder: Path) -> None:
        raise OSError(28, "No space left on device")

    for step in (2, 4):
        with pytest.raises(TrainingError, match=r"could not be written .*No space left on device"):
            checkpoints.save(step, full)
    assert [path.name for path in checkpoints.folder.iterdir()] == ["checkpoint-2"]
    assert checkpoints.describe_latest() == f"the last good checkpoint is {checkpoints.path(2)}"


def test_a_manifest_has_the_checksum_of_every_file(checkpoints: CheckpointManager) -> None:
    checkpoints.save(2, writer("x"))
    manifest = json.loads((checkpoints.path(2) / MANIFEST).read_text())
    assert list(manifest["files"]) == ["a", "b"]
    assert set(manifest["files"].values()) == {
        "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    }
