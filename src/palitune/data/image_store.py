"""Resized images on disk: each is decoded and resized once, and mapped into memory from then on.

Whoever misses an entry makes it, so the workers of the first epoch fill the store side by side.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import rich
from PIL.Image import Resampling

from palitune import __version__, processes
from palitune.data.entries import Entries, readable
from palitune.data.pixels import Images
from palitune.examples import DataError, Example, Size


class ImageStore:
    """A folder of resized images, for one size and way of resizing."""

    def __init__(self, folder: str, size: Size, resample: Resampling, images: Images) -> None:
        width, height = size
        self.shape = (height, width, 3)
        name = f"{images.value}-{resample.name.lower()}-{width}x{height}-{__version__}"
        self.entries = Entries(Path(folder).expanduser() / name, height * width * 3)

    def pixels(self, image: str, make: Callable[[], np.ndarray]) -> np.ndarray:
        """Return what `make` returns for an image, (height, width, 3) uint8, made once."""
        try:
            entry = self.entries.of(image)
        except OSError:
            return make()  # which tells what is wrong with the file
        if (kept := self.entries.read(entry)) is not None:
            return kept.reshape(self.shape)
        made = make()
        try:
            self.entries.write(entry, made)
        except OSError as mistake:
            raise DataError(
                f"{entry.parent}: an image cannot be kept here ({mistake}); name a folder on "
                "another disk in image_store, or set it to null"
            ) from mistake
        return made

    def announce(self, examples: Iterable[Example]) -> None:
        """Say what the store will take on disk; raise DataError where that is not free."""
        count = len({image for example in examples for image in example.images})
        there = sum(1 for _ in self.entries.folder.glob("??/*"))
        needed, free = self.entries.room(max(count - there, 0))
        if needed and processes.is_first():
            rich.print(
                f"image store: {count} images of {readable(self.entries.size)} each; {there} are "
                f"there; up to {readable(needed)} will be written to {self.entries.folder} "
                f"({readable(free)} free)"
            )
        if needed > free:
            raise DataError(
                f"image_store: {readable(needed)} are needed in {self.entries.folder} and "
                f"{readable(free)} are free; name a folder on another disk, or set it to null"
            )
