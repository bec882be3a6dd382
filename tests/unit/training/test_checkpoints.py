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

from palitune.training.checkpoints import MANIFEST, Checkpoints, fault_of
from palitune.training.faults import TrainingError


class Killed(BaseException):
    """What no code can clean up after."""


def filled(text: str) -> Callable[[Path], None]:
    return lambda folder: [(folder / name).write_text(text) for name in "ab"] and None


def steps(checkpoints: Checkpoints) -> list[int]:
    return sorted(int(path.name.rpartition("-")[2]) for path in checkpoints.newest_first())


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "checkpoints")


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
            (os, "fsync"), (os, "mkdir"), (os, "rename"), (Path, "write_text"), (shutil, "rmtree"),
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
        checkpoints.write(4, filled("new"))
        checkpoints.keep(1, best=None)

    for moment in itertools.count():
        checkpoints = Checkpoints(tmp_path / str(moment))
        checkpoints.write(2, filled("old"))
        if not cut_off(write, moment):
            break
        newest = checkpoints.newest_whole()
        assert newest is not None
        seen.append((newest / "a").read_text())
        assert (newest.name, seen[-1]) in {("checkpoint-2", "old"), ("checkpoint-4", "new")}
        checkpoints.clear()
        assert not list(checkpoints.folder.glob(".*"))
        checkpoints.write(4, filled("new"))
        assert checkpoints.newest_whole() == checkpoints.of(4)
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
    checkpoints: Checkpoints,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for step in (2, 4):
        checkpoints.write(step, filled(str(step)))
    harm(checkpoints.of(4))
    assert str(fault_of(checkpoints.of(4))).endswith(said)
    assert checkpoints.newest_whole() == checkpoints.of(2)
    (message,) = caplog.messages
    assert message.endswith(f"{said}; going on from checkpoint-2 instead")
    cut(checkpoints.of(2) / "a")
    with pytest.raises(
        TrainingError, match=r"no checkpoint in .* is whole: .*training.resume=null"
    ):
        checkpoints.newest_whole()


def test_the_newest_and_the_best_are_kept(checkpoints: Checkpoints) -> None:
    for step in (1, 2, 3, 4, 5):
        checkpoints.write(step, filled(str(step)))
        checkpoints.keep(2, best=2 if step > 1 else None)
    assert steps(checkpoints) == [2, 4, 5]
    checkpoints.keep(1, best=5)
    assert steps(checkpoints) == [5]


def test_the_newest_is_the_one_written_last_not_the_one_of_the_highest_step(
    checkpoints: Checkpoints,
) -> None:
    """Someone went on from an older one: what lies after it belongs to another branch."""
    for step in (2, 4, 6, 3):
        checkpoints.write(step, filled(str(step)))
    assert checkpoints.newest_whole() == checkpoints.of(3)
    checkpoints.keep(2, best=None)
    assert steps(checkpoints) == [3, 6]


def test_a_disk_that_is_full_keeps_what_was_there(checkpoints: Checkpoints) -> None:
    checkpoints.write(2, filled("old"))

    def full(folder: Path) -> None:
        raise OSError(28, "No space left on device")

    for step in (2, 4):
        with pytest.raises(TrainingError, match=r"could not be written .*No space left on device"):
            checkpoints.write(step, full)
    assert [path.name for path in checkpoints.folder.iterdir()] == ["checkpoint-2"]
    assert checkpoints.said() == f"the last good checkpoint is {checkpoints.of(2)}"


def test_a_manifest_names_the_checksum_of_every_file(checkpoints: Checkpoints) -> None:
    checkpoints.write(2, filled("x"))
    told = json.loads((checkpoints.of(2) / MANIFEST).read_text())
    assert list(told["files"]) == ["a", "b"]
    assert set(told["files"].values()) == {
        "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    }
