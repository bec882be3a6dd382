"""Claim of an output folder: nothing of another run is overwritten, and no two processes share it.

The lock is a POSIX record lock, which the operating system releases when the process ends, however
it ends. Data loader workers do not inherit it.
"""

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import ClassVar, Protocol

from palitune.errors import ConfigError

LOCK_FILE = ".lock"
_BOOKKEEPING = {"config.yaml", "environment.json", "skipped.txt", "logs", LOCK_FILE}
"""Files that every start of a run writes again; a folder with nothing else holds no result."""


class ClaimingRun(Protocol):
    """The settings of a run that decide where it may write."""

    name: ClassVar[str]
    output_dir: str
    overwrite: bool
    has_default_folder: bool

    @property
    def resumes(self) -> bool: ...
    def written_folders(self) -> list[str]: ...


def check_output(run: ClaimingRun) -> None:
    """Raise ConfigError if the output of a run cannot be written, or would replace another's."""
    _check_writable(Path(run.output_dir))
    if run.has_default_folder or run.overwrite:
        return
    for folder in run.written_folders():
        check_free(Path(folder), recipe=run.name, resumes=run.resumes)


def claim_output(run: ClaimingRun, stack: ExitStack) -> str:
    """Lock the folders of a run until the stack is closed; return its output folder.

    A default folder that exists is numbered. Raises ConfigError as `check_output` does, and if
    another process uses a folder.
    """
    check_output(run)
    default = Path(run.output_dir)
    while True:
        if run.has_default_folder:
            run.output_dir = str(next_free(default))
        try:
            for folder in run.written_folders():
                stack.enter_context(lock_folder(Path(folder)))
            return run.output_dir
        except ConfigError:
            # Another process that started in the same second has taken the name.
            if not run.has_default_folder or next_free(default) == Path(run.output_dir):
                raise


def check_free(folder: Path, *, recipe: str, resumes: bool) -> None:
    """Raise ConfigError if a folder holds results that a run would overwrite.

    Args:
        folder: Output folder; it may not exist yet.
        recipe: Recipe that writes to it.
        resumes: Whether the run resumes the one in the folder.
    """
    if not folder.is_dir() or resumes:
        return
    content = sorted(path.name for path in folder.iterdir())
    if not (results := [name for name in content if name not in _BOOKKEEPING]):
        return
    earlier = recipe_of(folder)
    if earlier == recipe and recipe in ("inspect", "plan"):
        return  # a page that the same command writes again
    if earlier == recipe == "evaluate" and _is_interrupted_evaluation(folder, results):
        return
    shown = ", ".join(results[:4]) + (", ..." if len(results) > 4 else "")
    holds = f"a run of {earlier}" if earlier else "other files"
    can_resume = earlier == recipe and recipe in ("finetune", "align")
    resume = "training.resume=auto to resume it, " if can_resume else ""
    raise ConfigError(
        f"output_dir {folder} already holds {holds} ({shown}). Set {resume}"
        f"output_dir={next_free(folder)} for a new folder, or overwrite=true."
    )


def recipe_of(folder: Path) -> str | None:
    """Return the recipe that wrote `config.yaml` of a run folder; None if it is no run folder."""
    try:
        head = (folder / "config.yaml").read_text(encoding="utf-8", errors="replace")[:300]
    except OSError:
        return None
    match = re.search(r"^# A run of (\w+)", head, re.MULTILINE)
    return match[1] if match else None


def next_free(folder: Path) -> Path:
    """Return the folder, or its first numbered variant (`run_2`) that does not exist."""
    candidate, number = folder, 1
    while candidate.exists():
        number += 1
        candidate = folder.with_name(f"{folder.name}_{number}")
    return candidate


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Create a folder and lock it for this process; remove it again if it stays empty.

    Raises ConfigError if another process has locked it, or it cannot be written.
    """
    created = _missing_parents(folder)
    file = folder / LOCK_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = _open_locked(file, folder)
    except OSError as error:
        raise _cannot_create(folder, error) from error
    try:
        yield
    finally:
        file.unlink(missing_ok=True)
        os.close(descriptor)
        for parent in created:
            if any(parent.iterdir()):
                break
            parent.rmdir()


def _open_locked(file: Path, folder: Path) -> int:
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.read(descriptor, 100).decode("utf-8", "replace").strip()
            os.close(descriptor)
            raise ConfigError(
                f"output_dir {folder} is in use by another run ({owner or 'starting'}). Wait for "
                f"its end, or set output_dir={next_free(folder)}."
            ) from error
        # The last owner may have deleted the file between opening and locking.
        if file.exists() and os.fstat(descriptor).st_ino == file.stat().st_ino:
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"process {os.getpid()} on {os.uname().nodename}\n".encode())
            return descriptor
        os.close(descriptor)


def _missing_parents(folder: Path) -> list[Path]:
    """Return the folder and its parents that do not exist yet, innermost first."""
    return [path for path in (folder, *folder.parents) if not path.exists()]


def _check_writable(folder: Path) -> None:
    try:
        existing = next(path for path in (folder, *folder.parents) if path.exists())
    except OSError as error:
        raise _cannot_create(folder, error) from error
    if not existing.is_dir():
        raise ConfigError(f"output_dir {folder}: {existing} is a file. Set another output_dir.")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ConfigError(
            f"output_dir {folder}: {existing} is not writable. Set another output_dir."
        )


def _cannot_create(folder: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f"output_dir {folder} cannot be written ({error.strerror}). Set another output_dir."
    )


def _is_interrupted_evaluation(folder: Path, results: list[str]) -> bool:
    """Return whether a folder holds only the partial predictions of an evaluation."""
    if results != ["predictions.jsonl"]:
        return False
    with (folder / "predictions.jsonl").open(encoding="utf-8", errors="replace") as lines:
        return '"origin"' in next(lines, "")
