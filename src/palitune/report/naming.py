"""Short, distinct names for base models, runs and folders."""

import re
from collections.abc import Sequence
from pathlib import Path, PurePath

from palitune.models.adapters.config import AdapterConfig
from palitune.models.config import ModelConfig


def model_display_name(model: ModelConfig) -> str:
    """Return the hub id of a base model, or its option and folder."""
    source = model.name_or_path()
    return source if model.on_hub() else f"{model.name} ({Path(source).name})"


def model_facts(model: ModelConfig, adapter: AdapterConfig) -> list[tuple[str, str]]:
    """Return (name, text) of base model and adapter for the header of a page."""
    return [
        ("model", model_display_name(model)),
        ("adapter", adapter.path or "none: the base model"),
    ]


def shorten_to_differences(values: Sequence[str]) -> list[str]:
    """Shorten paths to the folders in which they differ; other values are kept.

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
    """Return a numbered folder name for each label: `0_adapter.rank=8`."""
    digits = len(str(len(labels) - 1))
    return [
        re.sub(r"[^\w.,=+-]+", "_", f"{number:0{digits}}_{label}")[:100]
        for number, label in enumerate(labels)
    ]


def _common_prefix_length(sequences: Sequence[Sequence[str]]) -> int:
    columns = zip(*sequences, strict=False)
    return next(
        (index for index, column in enumerate(columns) if len(set(column)) > 1),
        min(map(len, sequences)),
    )
