"""A checkpoint is there whole or not at all, and damage is found and told."""

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
from palitune.training.checkpoints import MANIFEST, CheckpointManager, validate_checkpoint


class Killed(BaseException):
    """What no code can clean up after."""


def filled(text: str) -> Callable[[Path], None]:
    return lambda folder: [(folder / name).write_text(text) for name in "ab"] and None


def steps(checkpoints: CheckpointManager) -> list[int]:
    return sorted(int(path.name.rpartition("-")[2]) for path in checkpoints.list_newest_first())


@pytest.fixture
def checkpoints(tmp_path: Path) -> CheckpointManager:
    return CheckpointManager(tmp_path / "checkpoints")


def cut_off(write: Callable[[], None], moment: int) -> bool:
    """Tell whether the call of a number was come to: it is the last, and done if odd."""
    calls = 0

    def last(call: Any, *told: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls != moment // 2 + 1:
            return call(*told, **named)
        with contextlib.suppress(OSError):
            if moment % 2:
                call(*told, **named)
        raise Killed

    def watched(call: Any) -> Any:
        return lambda *told, **named: last(call, *told, **named)

    with pytest.MonkeyPatch.context() as patched:
        for module, name in (
            (os, "fsync"), (os, "mkdir"), (os, "rename"), (os, "replace"), (Path, "write_text"),
            (shutil, "rmtree"),
        ):  # fmt: skip
            patched.setattr(module, name, watched(getattr(module, name)))
        try:
            write()
        except Killed:
            return True
    return False


def test_a_kill_at_any_moment_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    seen: list[str] = []

    def write() -> None:
        checkpoints.save(4, filled("new"))
        checkpoints.prune(1, best_step=None)

    for moment in itertools.count():
        checkpoints = CheckpointManager(tmp_path / str(moment))
        checkpoints.save(2, filled("old"))
        if not cut_off(write, moment):
            break
        newest = checkpoints.latest_valid()
        assert newest is not None
        seen.append((newest / "a").read_text())
        assert (newest.name, seen[-1]) in {("checkpoint-2", "old"), ("checkpoint-4", "new")}
        checkpoints.delete_incomplete()
        assert not list(checkpoints.folder.glob(".*"))
        checkpoints.save(4, filled("new"))
        assert checkpoints.latest_valid() == checkpoints.path(4)
    assert seen == sorted(seen, reverse=True)
    assert set(seen) == {"old", "new"}


def cut(file: Path) -> None:
    file.write_text(file.read_text()[:-3])


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda folder: cut(folder / "a"), "a is damaged: its checksum is another"),
        (lambda folder: (folder / "b").unlink(), "b is missing"),
        (lambda folder: cut(folder / MANIFEST), "checkpoint-4 cannot be read"),
        (lambda folder: (folder / MANIFEST).write_text("[]"), "checkpoint-4 cannot be read"),
    ],
)
def test_damage_is_told_and_the_one_before_is_taken(
    harm: Callable[[Path], None],
    said: str,
    checkpoints: CheckpointManager,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for step in (2, 4):
        checkpoints.save(step, filled(str(step)))
    harm(checkpoints.path(4))
    assert str(validate_checkpoint(checkpoints.path(4))).endswith(said)
    assert checkpoints.latest_valid() == checkpoints.path(2)
    (message,) = caplog.messages
    assert message.endswith(f"{said}; going on from checkpoint-2 instead")
    cut(checkpoints.path(2) / "a")
    with pytest.raises(
        TrainingError, match=r"no checkpoint in .* is whole: .*training.resume=null"
    ):
        checkpoints.latest_valid()


def test_the_newest_and_the_best_are_kept(checkpoints: CheckpointManager) -> None:
    for step in (1, 2, 3, 4, 5):
        checkpoints.save(step, filled(str(step)))
        checkpoints.prune(2, best_step=2 if step > 1 else None)
    assert steps(checkpoints) == [2, 4, 5]
    checkpoints.prune(1, best_step=5)
    assert steps(checkpoints) == [5]


def test_the_newest_is_the_one_written_last_not_the_one_of_the_highest_step(
    checkpoints: CheckpointManager,
) -> None:
    """Someone went on from an older one: what lies after it belongs to another branch."""
    for step in (2, 4, 6, 3):
        checkpoints.save(step, filled(str(step)))
    assert checkpoints.latest_valid() == checkpoints.path(3)
    checkpoints.prune(2, best_step=None)
    assert steps(checkpoints) == [3, 6]


def test_a_disk_that_is_full_keeps_what_was_there(checkpoints: CheckpointManager) -> None:
    checkpoints.save(2, filled("old"))

    def full(folder: Path) -> None:
        raise OSError(28, "No space left on device")

    for step in (2, 4):
        with pytest.raises(TrainingError, match=r"could not be written .*No space left on device"):
            checkpoints.save(step, full)
    assert [path.name for path in checkpoints.folder.iterdir()] == ["checkpoint-2"]
    assert checkpoints.describe_latest() == f"the last good checkpoint is {checkpoints.path(2)}"


def test_a_manifest_names_the_checksum_of_every_file(checkpoints: CheckpointManager) -> None:
    checkpoints.save(2, filled("x"))
    told = json.loads((checkpoints.path(2) / MANIFEST).read_text())
    assert list(told["files"]) == ["a", "b"]
    assert set(told["files"].values()) == {
        "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    }
