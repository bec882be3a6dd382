"""The files of a folder, as recognition reads them: names, and the start and end of files."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path, PurePosixPath

from palitune.data.sources.folders import IMAGE_EXTENSIONS

_MAX_FILES = 500_000
"""Names that are listed; recognition needs only some of each kind."""
_MAX_PROBES = 20
"""Files of one kind that are read in a folder; COCO has eight annotation files in one."""
_MAX_DEPTH = 6
_HEAD_BYTES, _TAIL_BYTES = 1 << 16, 1 << 17


@dataclass(frozen=True)
class Listing:
    """Names of the files of a folder, relative to it, and a reader of their start and end."""

    files: tuple[str, ...]
    read: Callable[[str], bytes]
    """Returns the start of a file, and of a long file its end too."""

    def text(self, name: str) -> str:
        """Return the start and end of a text file."""
        return self.read(name).decode("utf-8-sig", "replace")

    def with_suffix(self, *suffixes: str) -> list[str]:
        """Return the files with one of the extensions."""
        return [name for name in self.files if PurePosixPath(name).suffix.lower() in suffixes]

    @cached_property
    def images(self) -> list[str]:
        """The image files."""
        return self.with_suffix(*IMAGE_EXTENSIONS)

    def probes(self, *suffixes: str) -> Iterator[str]:
        """Yield the files with one of the extensions, but only the first of each folder.

        Folders with a file per image have thousands of one kind.
        """
        count: dict[str, int] = {}
        for name in self.with_suffix(*suffixes):
            folder = name.rpartition("/")[0]
            count[folder] = count.get(folder, 0) + 1
            if count[folder] <= _MAX_PROBES:
                yield name


def list_folder(path: Path) -> Listing:
    """Return the listing of a folder, or of the folder of a file with this file only."""
    if path.is_file():
        return Listing((path.name,), lambda name: _read_ends(path.parent / name))
    files = tuple(islice(_walk(path, "", _MAX_DEPTH), _MAX_FILES))
    return Listing(files, lambda name: _read_ends(path / name))


def _walk(root: Path, inside: str, depth: int) -> Iterator[str]:
    folders: list[str] = []
    try:
        entries = sorted(os.scandir(root / inside), key=lambda entry: entry.name)
    except OSError:  # a folder of another user; the annotations are elsewhere
        entries = []
    for entry in entries:
        if entry.name.startswith(".") or entry.name == "__MACOSX":
            continue
        try:
            is_folder, is_file = entry.is_dir(), entry.is_file()
        except OSError:  # a link to itself
            continue
        if is_folder:
            folders.append(entry.name)
        elif is_file:  # a pipe would block its reader
            yield f"{inside}{entry.name}"
    for name in folders if depth else ():
        yield from _walk(root, f"{inside}{name}/", depth - 1)


def _read_ends(file: Path) -> bytes:
    try:
        with file.open("rb") as content:
            head = content.read(_HEAD_BYTES)
            size = content.seek(0, os.SEEK_END)
            content.seek(max(len(head), size - _TAIL_BYTES))
            return head + content.read()
    except OSError:
        return b""


def example_names(names: Sequence[str]) -> str:
    """Return up to three names for a sentence, and the number of all."""
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
