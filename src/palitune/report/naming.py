"""Names that tell several things apart: short ones by what differs, those of folders."""

import re
from collections.abc import Sequence
from pathlib import PurePath


def shorten_to_differences(values: Sequence[str]) -> list[str]:
    """Shorten paths to the folders in which they differ; what is not a path stays.

    `runs/lora8/adapter`, `runs/lora16/adapter` and `null` become `lora8`, `lora16` and `null`.
    """
    paths = {value: PurePath(value).parts for value in dict.fromkeys(values) if "/" in value}
    if len(paths) < 2:
        return list(values)
    start = _common_prefix_length(list(paths.values()))
    end = _common_prefix_length([parts[start:][::-1] for parts in paths.values()])
    short = {value: "/".join(parts[start : len(parts) - end]) for value, parts in paths.items()}
    if not all(short.values()):  # one path lies within another: keep what follows
        short = {value: "/".join(parts[max(0, start - 1) :]) for value, parts in paths.items()}
    return [short.get(value, value) for value in values]


def folder_names(labels: Sequence[str]) -> list[str]:
    """Make names of folders, numbered: `0_adapter.rank=8`."""
    digits = len(str(len(labels) - 1))
    return [
        re.sub(r"[^\w.,=+-]+", "_", f"{number:0{digits}}_{label}")[:100]
        for number, label in enumerate(labels)
    ]


def _common_prefix_length(sequences: Sequence[Sequence[str]]) -> int:
    """How many items all sequences begin with."""
    columns = zip(*sequences, strict=False)
    return next(
        (place for place, column in enumerate(columns) if len(set(column)) > 1),
        min(map(len, sequences)),
    )
