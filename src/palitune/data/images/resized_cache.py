"""Cache of resized images: each image is decoded and resized once, then mapped into memory.

Missing entries are created on first use, so the loader workers fill the cache in parallel.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from PIL.Image import Resampling

from palitune import __version__
from palitune.data.images.file_cache import FileCache, format_bytes
from palitune.data.images.resize import ResizeBackend
from palitune.distributed import collectives
from palitune.distributed.terminal import print_line
from palitune.errors import DataError
from palitune.records import Example, Size, Tile


class ResizedImageCache:
    """A folder of resized images.

    Args:
        folder: Folder of all such caches; a subfolder is named by the other arguments.
        size: (width, height) of the resized images in pixels.
        resample: Pillow's filter.
        resize_backend: Library that resizes.
    """

    def __init__(
        self, folder: str, size: Size, resample: Resampling, resize_backend: ResizeBackend
    ) -> None:
        width, height = size
        self.shape = (height, width, 3)
        name = f"{resize_backend.value}-{resample.name.lower()}-{width}x{height}-{__version__}"
        self.file_cache = FileCache(Path(folder).expanduser() / name, height * width * 3)

    def get_or_create(
        self, image: str, create: Callable[[], np.ndarray], tile: Tile | None = None
    ) -> np.ndarray:
        """Return an image's entry, (height, width, 3) uint8; call `create` if there is none.

        Args:
            image: Image file.
            create: Loads the image, or the tile.
            tile: Part of the image; None: the whole image.
        """
        try:
            entry = self.file_cache.path_for(image)
            if tile is not None:
                entry = entry.with_name(f"{entry.name}-{'-'.join(map(str, tile))}")
        except OSError:
            return create()  # raises an error that describes the file
        if (cached := self.file_cache.read(entry)) is not None:
            return cached.reshape(self.shape)
        pixels = create()
        try:
            self.file_cache.write(entry, pixels)
        except OSError as error:
            raise DataError(
                f"{entry.parent}: an image cannot be cached here ({error}); set image_cache to a "
                "folder on another disk, or to null"
            ) from error
        return pixels

    def check_disk_space(self, examples: Iterable[Example]) -> None:
        """Print the disk space that the images of the examples take. Raises DataError if it is
        not free.
        """
        count = len({(image, example.tile) for example in examples for image in example.images})
        num_cached = sum(1 for _ in self.file_cache.folder.glob("??/*"))
        required, free = self.file_cache.required_and_free(max(count - num_cached, 0))
        if required and collectives.is_main_process():
            print_line(
                f"image cache: {count} images of {format_bytes(self.file_cache.entry_size)} each, "
                f"{num_cached} already cached; up to {format_bytes(required)} will be written to "
                f"{self.file_cache.folder} ({format_bytes(free)} free)"
            )
        if required > free:
            raise DataError(
                f"image_cache requires {format_bytes(required)} in {self.file_cache.folder}, and "
                f"{format_bytes(free)} are free; set it to a folder on another disk, or to null"
            )
