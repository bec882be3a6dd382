"""Image files with identical bytes."""

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from itertools import combinations
from typing import Any

_HEAD_BYTES = 1 << 16
"""Bytes at the start of a file that are compared before the whole file is read."""


@dataclass(frozen=True)
class DuplicateImages:
    """Groups of identical files within and across splits."""

    within_splits: dict[str, list[list[str]]]
    """Groups of different paths with the same content, by split."""
    across_splits: dict[tuple[str, str], list[tuple[str, str]]]
    """(path in the first split, path in the second) with the same content, by pair of splits."""

    def summary(self) -> dict[str, Any]:
        """Return the groups as JSON."""
        return {
            "within": self.within_splits,
            "across": {" and ".join(pair): files for pair, files in self.across_splits.items()},
        }


def find_duplicates(images: Mapping[str, Iterable[str]]) -> DuplicateImages:
    """Find identical image files among the paths of each split."""
    splits = {split: dict.fromkeys(paths) for split, paths in images.items()}
    contents = group_identical_files({path for paths in splits.values() for path in paths})
    by_content: dict[str, dict[int, list[str]]] = {split: {} for split in splits}
    for split, paths in splits.items():
        for path in paths:
            by_content[split].setdefault(contents[path], []).append(path)
    within = {
        split: [paths for paths in groups.values() if len(paths) > 1]
        for split, groups in by_content.items()
    }
    across = {
        (first, second): [
            (by_content[first][content][0], path)
            for content, paths in by_content[second].items()
            if content in by_content[first]
            for path in paths
        ]
        for first, second in combinations(splits, 2)
    }
    return DuplicateImages(
        {split: groups for split, groups in within.items() if groups},
        {pair: files for pair, files in across.items() if files},
    )


def group_identical_files(paths: Iterable[str]) -> dict[str, int]:
    """Number files so that equal numbers mean equal bytes.

    Only files of equal size are opened, and only those with equal starts are read completely.
    """
    groups = [sorted(paths)]
    keys: tuple[Callable[[str], Any], ...] = (os.path.getsize, _head_digest, _digest)
    for key in keys:
        refined: list[list[str]] = []
        for group in groups:
            by_key: dict[Any, list[str]] = {}
            for path in group:
                by_key.setdefault(key(path) if len(group) > 1 else None, []).append(path)
            refined += by_key.values()
        groups = refined
    return {path: number for number, group in enumerate(groups) for path in group}


def _head_digest(path: str) -> bytes:
    with open(path, "rb") as file:
        return blake2b(file.read(_HEAD_BYTES), digest_size=16).digest()


def _digest(path: str) -> bytes:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
