"""Checks of images and annotation files that all formats share."""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast
from xml.etree import ElementTree

from palitune.codec.parsing import parse_json
from palitune.errors import DataError, LeftOut
from palitune.records import Row, Size

if TYPE_CHECKING:
    from palitune.data.images.io import Header

HeaderReader = Callable[[str], "Header"]
Item = TypeVar("Item")
Result = TypeVar("Result")

_WINDOWS_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_MAX_COORDINATE = 1e9
"""Pixels that no image has; integers too long for a float stay out of the arithmetic."""
_MAX_LISTED_FAULTS = 5
"""Faults of one row that a message names."""
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
        raise DataError(f"{location}: {error}{_other_case_hint(path)}") from error


def _other_case_hint(path: str) -> str:
    """Return a sentence about a file that differs from a missing one only in case."""
    folder, name = os.path.split(path)
    if os.path.lexists(path) or not os.path.isdir(folder):
        return ""
    names = (entry for entry in os.listdir(folder) if entry.casefold() == name.casefold())
    found = next(names, None)
    return f". There is {found}, which differs in case; use one spelling." if found else ""


def image_path(folder: str, name: str, location: str) -> str:
    """Return the absolute path of an image named by an annotation. Raises DataError for a URL."""
    if "://" in name:
        raise DataError(
            f"{location}: image must be a path relative to the data, got the URL {name!r}. "
            "Download the images."
        )
    if _WINDOWS_DRIVE.match(name):
        raise DataError(
            f"{location}: image must be a path relative to the data, got the Windows path "
            f"{name!r}. Write the part below the folder of the data."
        )
    if "\\" in name and not os.path.exists(os.path.join(folder, name)):
        name = name.replace("\\", "/")  # a relative path that was written on Windows
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
    for value in values:
        if type(value) not in (int, float) or not -_MAX_COORDINATE < value < _MAX_COORDINATE:
            return False
    return bool(values)


def rows_or_errors(
    make_row: Callable[[Item], Row], items: Iterable[Item], left_out: list[LeftOut] | None = None
) -> Iterator[Row | DataError]:
    """Yield the row of each item, or the DataError raised while the row was made.

    `left_out` collects what `make_row` leaves out of a row; it is yielded after the row.
    """
    for item in items:
        try:
            yield make_row(item)
        except DataError as error:
            yield error
        if left_out:
            yield from left_out
            left_out.clear()


class Faults:
    """The faults of one row, which are raised together."""

    def __init__(self) -> None:
        self._messages: list[str] = []

    def catch(self, function: Callable[..., Result], *arguments: Any) -> Result | None:
        """Return the result of a function; None if it raised a DataError, which is collected."""
        try:
            return function(*arguments)
        except DataError as error:
            self._messages.append(str(error))
            return None

    def raise_all(self) -> None:
        """Raise one DataError with the collected faults, if there are any."""
        listed = self._messages[:_MAX_LISTED_FAULTS]
        if rest := len(self._messages) - len(listed):
            listed.append(f"{rest} more in this row.")
        if listed:
            raise DataError(" Also ".join(listed))


def collect(make: Callable[[Item], Result], items: Iterable[Item]) -> tuple[Result, ...]:
    """Return the result of every item. Raises one DataError with the faults of all items."""
    faults = Faults()
    results = [faults.catch(make, item) for item in items]
    faults.raise_all()
    return tuple(cast(list[Result], results))


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


class _NoDoctype(ElementTree.TreeBuilder):
    """XML builder that rejects document types, and with them entity expansion attacks."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> NoReturn:
        raise DataError("got a document type")


def parse_xml(file: Path, root_tag: str, way_out: str) -> ElementTree.Element:
    """Return the root of an XML file.

    Args:
        file: The file.
        root_tag: Tag that the root must have.
        way_out: Sentence for the error message about another tag.

    Raises:
        DataError: The file is not XML, has a document type, or another root.
        FileNotFoundError: There is no such file.
    """
    try:
        root = ElementTree.fromstring(
            file.read_bytes(), parser=ElementTree.XMLParser(target=_NoDoctype())
        )
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise DataError(
            f"{file}: file must be XML without a document type ({error}). Export it again."
        ) from error
    if root.tag != root_tag:
        raise DataError(f"{file}: root element must be <{root_tag}>, got <{root.tag}>. {way_out}")
    return root


def utf8_lines(content: bytes, file: object) -> list[str]:
    """Return the lines of a text file. Raises DataError if it is not UTF-8."""
    return utf8_text(content, file).splitlines()


def utf8_text(content: bytes, file: object) -> str:
    """Return the content of a text file. Raises DataError if it is not UTF-8."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{file}:{line}: text must be UTF-8 ({error.reason}). Save the file as UTF-8."
        ) from None


def short_repr(value: Any) -> str:
    """Return `repr(value)`, cut to a length that fits a message."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
