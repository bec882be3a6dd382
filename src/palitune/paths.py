"""The cache folder, the bundled resource folders, and atomic writes."""

import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LEFTOVER_AGE_SECONDS = 24 * 3600
"""Age after which a temporary folder belongs to no process that still writes to it."""


def cache_root() -> Path:
    """Return `$PALITUNE_CACHE`, by default `~/.cache/palitune`; its content can be rebuilt."""
    variable = os.environ.get("PALITUNE_CACHE")
    return Path(variable).expanduser() if variable else Path.home() / ".cache" / "palitune"


def resource_dir(folder: str) -> Path:
    """Return `conf` or `recipes`: in the package when installed, next to `src/` in a checkout."""
    package = Path(__file__).parent
    installed, checkout = package / folder, package.parents[1] / folder
    return installed if installed.is_dir() else checkout


@contextmanager
def write_atomically(target: Path) -> Iterator[Path]:
    """Yield a temporary path for a file or folder, and rename it to `target` at the end.

    Other processes see `target` complete or not at all. A file replaces an older one. A folder that
    already exists is kept, because another process has created it in the meantime. If the block
    raises, the temporary file or folder is deleted and `target` stays as it was.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}-{uuid.uuid4().hex}")
    try:
        yield temporary
        try:
            temporary.replace(target)
        except OSError:
            if not (temporary.is_dir() and target.is_dir()):
                raise
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def delete_leftovers(folder: Path) -> None:
    """Delete temporary folders in `folder` that killed processes left more than a day ago."""
    for temporary in folder.glob(f".*-{'[0-9a-f]' * 32}"):
        try:
            is_old = time.time() - temporary.stat().st_mtime > _LEFTOVER_AGE_SECONDS
        except OSError:  # renamed or deleted by its process
            continue
        if is_old and temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
