"""Names of splits, and the search for the annotation file of a split."""

import glob
from collections.abc import Sequence
from pathlib import Path

SPLITS = ("train", "validation", "test")
"""The usual splits; a data set may have others."""

_VALIDATION_ALIASES = ("validation", "val", "valid")


def canonical_split(split: str) -> str:
    """Return the name of a split in reports and settings: `val` and `valid` are `validation`."""
    return "validation" if split in _VALIDATION_ALIASES else split


def split_aliases(split: str) -> tuple[str, ...]:
    """Return every name that the files of a split may have."""
    return _VALIDATION_ALIASES if split == "validation" else (split,)


def find_split_files(
    folder: Path, patterns: Sequence[str], split: str, *, include_folders: bool = False
) -> list[Path]:
    """Return the matches of the first pattern that matches anything.

    Args:
        folder: Folder of the data.
        patterns: Paths relative to `folder`, with `{split}` and wildcards.
        split: Canonical name of the split.
        include_folders: Return folders too.

    Returns:
        Sorted paths. The split is ambiguous if there are several.
    """
    if Path(split).is_absolute():  # a path in place of a name
        return []
    for name in split_aliases(split):
        for pattern in patterns:
            paths = folder.glob(pattern.format(split=glob.escape(name)))
            matches = sorted(p for p in paths if p.is_file() or (include_folders and p.is_dir()))
            if matches:
                return matches
    return []
