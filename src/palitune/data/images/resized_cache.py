"""Resized images on disk: each is decoded and resized once, and mapped into memory from then on.

Whoever misses an entry makes it, so the workers of the first epoch fill the store side by side.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import rich
from PIL.Image import Resampling

from palitune import __version__
from palitune.data.images.file_cache import FileCache, format_bytes
from palitune.data.images.resize import ResizeBackend
from palitune.distributed import collectives
from palitune.errors import DataError
from palitune.records import Example, Size


class ResizedImageCache:
    """A folder of resized images, for one size and way of resizing."""

    def __init__(
        self, folder: str, size: Size, resample: Resampling, resize_backend: ResizeBackend
    ) -> None:
        width, height = size
        self.shape = (height, width, 3)
        name = f"{resize_backend.value}-{resample.name.lower()}-{width}x{height}-{__version__}"
        self.file_cache = FileCache(Path(folder).expanduser() / name, height * width * 3)

    def get_or_create(self, image: str, make: Callable[[], np.ndarray]) -> np.ndarray:
        """Return what `make` returns for an image, (height, width, 3) uint8, made once."""
        try:
            entry = self.file_cache.path_for(image)
        except OSError:
            return make()  # which tells what is wrong with the file
        if (kept := self.file_cache.read(entry)) is not None:
            return kept.reshape(self.shape)
        made = make()
        try:
            self.file_cache.write(entry, made)
        except OSError as mistake:
            raise DataError(
                f"{entry.parent}: an image cannot be kept here ({mistake}); name a folder on "
                "another disk in image_cache, or set it to null"
            ) from mistake
        return made

    def check_disk_space(self, examples: Iterable[Example]) -> None:
        """Say what the store will take on disk; raise DataError where that is not free."""
        count = len({image for example in examples for image in example.images})
        there = sum(1 for _ in self.file_cache.folder.glob("??/*"))
        needed, free = self.file_cache.required_and_free(max(count - there, 0))
        if needed and collectives.is_main_process():
            rich.print(
                f"image store: {count} images of {format_bytes(self.file_cache.entry_size)} each; {there} are "
                f"there; up to {format_bytes(needed)} will be written to {self.file_cache.folder} "
                f"({format_bytes(free)} free)"
            )
        if needed > free:
            raise DataError(
                f"image_cache: {format_bytes(needed)} are needed in {self.file_cache.folder} and "
                f"{format_bytes(free)} are free; name a folder on another disk, or set it to null"
            )
