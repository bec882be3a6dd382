"""Files that are made of images, all of one size, named by the image's bytes.

A checksum stands behind the content of each. Entries appear whole or not at all, so several
processes may make them at once.
"""

import hashlib
import os
import shutil
import zlib
from pathlib import Path

import numpy as np

_CHECKSUM_BYTES = 4


class FileCache:
    """The files in a folder; it is named by all that their content depends on besides the image."""

    def __init__(self, folder: Path, entry_size: int) -> None:
        self.folder = folder
        self.entry_size = entry_size
        """Bytes of content."""

    def path_for(self, image: str) -> Path:
        """Return where the entry of an image is, or would be."""
        with Path(image).open("rb") as file:
            name = hashlib.file_digest(file, "sha256").hexdigest()[:32]
        return self.folder / name[:2] / name

    def read(self, entry: Path) -> np.ndarray | None:
        """Map an entry into memory: (size,) uint8, what is written to it stays in this process.

        None where there is no such file, or it is not as it was written.
        """
        if not entry.exists() or entry.stat().st_size != self.entry_size + _CHECKSUM_BYTES:
            return None
        mapped = np.memmap(entry, np.uint8, "c")
        content, checksum = mapped[: self.entry_size], mapped[self.entry_size :].tobytes()
        return content if _checksum(content) == checksum else None

    def write(self, entry: Path, content: np.ndarray) -> None:
        """Write an entry aside and rename it."""
        entry.parent.mkdir(parents=True, exist_ok=True)
        unfinished = entry.with_name(f"{entry.name}.{os.getpid()}")
        with unfinished.open("wb") as file:
            file.write(content.data)
            file.write(_checksum(content))
        unfinished.replace(entry)

    def required_and_free(self, count: int) -> tuple[int, int]:
        """Return how many bytes so many entries take, and how many are free for them."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return count * self.entry_size, shutil.disk_usage(self.folder).free


def _checksum(content: np.ndarray) -> bytes:
    return zlib.crc32(content.data).to_bytes(_CHECKSUM_BYTES, "little")


def format_bytes(size: float) -> str:
    """Write a number of bytes with its unit."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
