"""Image files in folders."""

import os
from collections.abc import Iterator
from pathlib import Path

from palitune.errors import DataError

IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif")


def walk_files(folder: Path) -> Iterator[Path]:
    """Yield the files under a folder sorted by name, without hidden ones."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from walk_files(Path(entry.path))
        else:
            yield Path(entry.path)


def iterate_images(folder: Path) -> Iterator[Path]:
    """Yield the image files under a folder sorted by name."""
    return (file for file in walk_files(folder) if file.suffix.lower() in IMAGE_EXTENSIONS)


def images_by_stem(folder: Path) -> dict[str, Path]:
    """Return the images of a folder by their relative path without extension.

    Raises DataError if two images differ only in their extension.
    """
    images: dict[str, Path] = {}
    for file in iterate_images(folder):
        stem = file.relative_to(folder).with_suffix("").as_posix()
        if stem in images:
            raise DataError(
                f"{file}: image names must differ in more than the extension, got "
                f"{images[stem].name} too. Rename one of them."
            )
        images[stem] = file
    return images
