"""Images that are there twice, byte for byte, under whatever name."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from itertools import combinations
from pathlib import Path
from typing import Any

_HEAD_BYTES = 1 << 16
"""Bytes of a file that are compared before all of it is."""
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class DuplicateImages:
    """Groups of equal files, and what splits share."""

    within_splits: dict[str, list[list[str]]]
    """Different files of a split with the same content, by split."""
    across_splits: dict[tuple[str, str], list[tuple[str, str]]]
    """(file of the first, file of the second) with the same content, by pair of splits."""

    def summary(self) -> dict[str, Any]:
        """Return the groups as JSON takes them."""
        return {
            "within": self.within_splits,
            "across": {" and ".join(pair): found for pair, found in self.across_splits.items()},
        }


def find_duplicates(images: Mapping[str, Iterable[str]]) -> DuplicateImages:
    """Find equal image files, given the paths of every split."""
    splits = {split: dict.fromkeys(paths) for split, paths in images.items()}
    contents = group_identical_files({path for paths in splits.values() for path in paths})
    by_content: dict[str, dict[int, list[str]]] = {split: {} for split in splits}
    for split, paths in splits.items():
        for path in paths:
            by_content[split].setdefault(contents[path], []).append(path)
    within = {
        split: [paths for paths in found.values() if len(paths) > 1]
        for split, found in by_content.items()
    }
    across = {
        (one, other): [
            (by_content[one][content][0], path)
            for content, paths in by_content[other].items()
            if content in by_content[one]
            for path in paths
        ]
        for one, other in combinations(splits, 2)
    }
    return DuplicateImages(
        {split: groups for split, groups in within.items() if groups},
        {pair: found for pair, found in across.items() if found},
    )


def group_identical_files(paths: Iterable[str]) -> dict[str, int]:
    """Number files so that equal numbers mean equal bytes.

    Only files of equal length are opened, and only those that begin alike are read to their end.
    """
    groups = [sorted(paths)]
    for key in (os.path.getsize, _head_digest, _digest):
        split: list[list[str]] = []
        for group in groups:
            if len(group) == 1:
                split.append(group)
                continue
            parts: dict[Any, list[str]] = {}
            for path in group:
                parts.setdefault(key(path), []).append(path)
            split += parts.values()
        groups = split
    return {path: number for number, group in enumerate(groups) for path in group}


def _head_digest(path: str) -> bytes:
    with Path(path).open("rb") as file:
        return blake2b(file.read(_HEAD_BYTES), digest_size=16).digest()


def _digest(path: str) -> bytes:
    digest = blake2b(digest_size=16)
    with Path(path).open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.digest()
