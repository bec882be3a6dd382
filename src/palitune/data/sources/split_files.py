"""Where the annotation file of a split lies, when the user has not said it."""

import glob
from collections.abc import Sequence
from pathlib import Path

SPLITS = ("train", "validation", "test")
"""The splits that recipes ask for; any other name may be asked for too."""

_VALIDATION_ALIASES = ("validation", "val", "valid")


def canonical_split(split: str) -> str:
    """Return the one name under which a split is known: `val` and `valid` are `validation`."""
    return "validation" if split in _VALIDATION_ALIASES else split


def split_aliases(split: str) -> tuple[str, ...]:
    """Return every name under which the files of a split are looked for."""
    return _VALIDATION_ALIASES if split == "validation" else (split,)


def find_split_files(
    folder: Path, patterns: Sequence[str], split: str, *, include_folders: bool = False
) -> list[Path]:
    """Return the files (and folders, where asked for) that match the first pattern with any match.

    `patterns` are relative to `folder`, with `{split}` and wildcards. More than one file means
    that the caller has to ask.
    """
    if Path(split).is_absolute():  # a path where a name belongs
        return []
    for name in split_aliases(split):
        for pattern in patterns:
            wanted = pattern.format(split=glob.escape(name))
            matches = (
                p for p in folder.glob(wanted) if p.is_file() or (include_folders and p.is_dir())
            )
            if found := sorted(matches):
                return found
    return []
