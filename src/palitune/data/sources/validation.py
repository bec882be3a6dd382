"""Checks of images and annotation files that all formats share."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from palitune.codec.parsing import parse_json
from palitune.errors import DataError
from palitune.records import Row, Size

if TYPE_CHECKING:
    from palitune.data.images.io import Header

HeaderReader = Callable[[str], "Header"]
Item = TypeVar("Item")

_MAX_COORDINATE = 1e9
"""Pixels that no image has; integers too long for a float stay out of the arithmetic."""
_HEADER_CACHE_SIZE = 1 << 18
"""Image headers kept in memory while a file is read: about 80 MB."""


def cached_header_reader() -> HeaderReader:
    """Return `images.io.read_header` with a cache, for rows that share an image."""
    from palitune.data.images.io import read_header

    return lru_cache(maxsize=_HEADER_CACHE_SIZE)(read_header)


def image_size(read_header: HeaderReader, path: str, location: str) -> Size:
    """Return the (width, height) of an upright image. Raises DataError with `location` in it."""
    try:
        return read_header(path).size
    except DataError as error:
        raise DataError(f"{location}: {error}") from error


def image_path(folder: str, name: str, location: str) -> str:
    """Return the absolute path of an image named by an annotation. Raises DataError for a URL."""
    if "://" in name:
        raise DataError(
            f"{location}: image must be a path relative to the data, got the URL {name!r}. "
            "Download the images."
        )
    return os.path.normpath(os.path.join(folder, name))


def check_size(declared_size: tuple[Any, Any], header: "Header", path: str, location: str) -> None:
    """Raise DataError if an annotation was made for an image of another size.

    Args:
        declared_size: (width, height) in pixels as the annotation states it, or (None, None).
        header: Header of the image.
        path: Path of the image, for the message.
        location: Place of the annotation, for the message.
    """
    if declared_size in ((None, None), header.size):
        return
    rotated = " after its EXIF rotation" if header.transposed else ""
    alternative = "remove the EXIF tag" if header.transposed else "replace the image"
    raise DataError(
        f"{location}: size must be {header.size[0]}x{header.size[1]} px, as {path} has{rotated}, "
        f"got {declared_size[0]}x{declared_size[1]}. Export the annotations again, or "
        f"{alternative}."
    )


def are_numbers(values: Sequence[Any]) -> bool:
    """Return whether a non-empty list holds only finite numbers that can be coordinates."""
    return (
        bool(values)
        and {int, float}.issuperset(map(type, values))
        and not any(value != value for value in values)
        and -_MAX_COORDINATE < min(values) <= max(values) < _MAX_COORDINATE
    )


def rows_or_errors(
    make_row: Callable[[Item], Row], items: Iterable[Item]
) -> Iterator[Row | DataError]:
    """Yield the row of each item, or the DataError raised while the row was made."""
    for item in items:
        try:
            yield make_row(item)
        except DataError as error:
            yield error


def with_location(error: Exception, location: str) -> DataError:
    """Return the error as a DataError whose text starts with `location`."""
    text = str(error)
    return DataError(text if text.startswith(location) else f"{location}: {text}")


def read_json(
    file: Path, way_out: str, object_hook: Callable[[dict[str, Any]], Any] | None = None
) -> Any:
    """Return the content of a JSON file.

    Args:
        file: The file.
        way_out: Sentence for the error message, e.g. "Export the annotations again."
        object_hook: Replaces each object while the file is parsed.

    Raises:
        DataError: The file is not JSON.
    """
    try:
        return parse_json(file.read_bytes(), object_hook)
    except ValueError as error:
        raise DataError(f"{file}: file must be JSON ({error}). {way_out}") from error


def utf8_lines(content: bytes, file: object) -> list[str]:
    """Return the lines of a text file. Raises DataError if it is not UTF-8."""
    try:
        return content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{file}:{line}: text must be UTF-8 ({error.reason}). Save the file as UTF-8."
        ) from None


def short_repr(value: Any) -> str:
    """Return `repr(value)`, cut to a length that fits a message."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
