"""Files of one size that are computed from images, named by the digest of the image file."""

import hashlib
import shutil
import tempfile
import zlib
from pathlib import Path

import numpy as np

from palitune.errors import DataError
from palitune.paths import write_atomically

_CHECKSUM_BYTES = 4


class FileCache:
    """A folder of files with a checksum each; several processes may write to it.

    Args:
        folder: The folder. Its name must contain everything but the image that the content depends
            on.
        entry_size: Content of each file in bytes.
    """

    def __init__(self, folder: Path, entry_size: int) -> None:
        self.folder = folder
        self.entry_size = entry_size

    def path_for(self, image: str) -> Path:
        """Return the path of an image's entry, which may not exist."""
        with Path(image).open("rb") as file:
            name = hashlib.file_digest(file, "sha256").hexdigest()[:32]
        return self.folder / name[:2] / name

    def read(self, entry: Path) -> np.ndarray | None:
        """Map an entry into memory, copy-on-write: (size,) uint8; None if missing or damaged."""
        if not entry.exists() or entry.stat().st_size != self.entry_size + _CHECKSUM_BYTES:
            return None
        mapped = np.memmap(entry, np.uint8, "c")
        content, checksum = mapped[: self.entry_size], mapped[self.entry_size :].tobytes()
        return content if _checksum(content) == checksum else None

    def write(self, entry: Path, content: np.ndarray) -> None:
        with write_atomically(entry) as temporary, temporary.open("wb") as file:
            file.write(content.data)
            file.write(_checksum(content))

    def required_and_free(self, count: int) -> tuple[int, int]:
        """Return the bytes that `count` entries take, and the free bytes on their disk.

        Raises DataError if the folder cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.folder).close()
        except OSError as error:
            raise DataError(
                f"the cache folder {self.folder} cannot be written ({error.strerror}). Set another "
                "folder."
            ) from error
        return count * self.entry_size, shutil.disk_usage(self.folder).free


def _checksum(content: np.ndarray) -> bytes:
    return zlib.crc32(content.data).to_bytes(_CHECKSUM_BYTES, "little")


def format_bytes(size: float) -> str:
    """Format a number of bytes with its unit."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
