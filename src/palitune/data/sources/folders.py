"""Image files in folders."""

import os
from collections.abc import Iterator
from pathlib import Path

from palitune.errors import DataError

IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif")


def walk_files(folder: Path) -> Iterator[Path]:
    """Yield the files under a folder sorted by name, without hidden ones.

    Raises DataError if a folder cannot be read, or a link leads to itself or to a folder above it.
    """
    return _walk(str(folder), ())


def _walk(folder: str, above: tuple[tuple[int, int], ...]) -> Iterator[Path]:
    """Yield the files under a folder; `above` has device and inode of the folders above it."""
    try:
        status = os.stat(folder)
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        names = [(entry, entry.is_dir()) for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read ({error.strerror}).") from error
    here = status.st_dev, status.st_ino
    if here in above:
        raise DataError(f"{folder} is a link to a folder above it. Remove the link.")
    for entry, is_folder in names:
        if is_folder:
            yield from _walk(entry.path, (*above, here))
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
