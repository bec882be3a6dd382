"""Image files in folders, and the annotation that belongs to each by its name."""

import os
from collections.abc import Iterator
from pathlib import Path

from palitune.errors import DataError

IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif")


def walk_files(folder: Path) -> Iterator[Path]:
    """Yield the files under a folder, hidden ones left out, in the order of their names."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from walk_files(Path(entry.path))
        else:
            yield Path(entry.path)


def iterate_images(folder: Path) -> Iterator[Path]:
    """Yield the image files under a folder in the order of their names."""
    return (file for file in walk_files(folder) if file.suffix.lower() in IMAGE_EXTENSIONS)


def images_by_stem(folder: Path) -> dict[str, Path]:
    """Return the images of a folder by their path in it without ending.

    Raises DataError where two images differ in their ending only.
    """
    found: dict[str, Path] = {}
    for file in iterate_images(folder):
        stem = file.relative_to(folder).with_suffix("").as_posix()
        if stem in found:
            raise DataError(
                f"{file}: {found[stem].name} differs from it by the ending only; rename one of them"
            )
        found[stem] = file
    return found
