"""The runs that are compared: read from their folders, part by part, and named by what differs."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from palitune.errors import DataError
from palitune.report.metrics_table import MetricValue, metric_values
from palitune.report.naming import shorten_to_differences
from palitune.report.run_reader import EvaluatedExample, RunFolder, read_run_folder

ExampleKey = tuple[str, int]
"""An example of a part: its id, and which of the examples with that id it is."""

_MAX_LABEL_PARTS = 4
_MAX_VALUE_LENGTH = 40
# What neither the weights nor the answers of a run depend on.
_IGNORED_SETTINGS = re.compile(
    r"(tracking|launch|defaults|evaluate_before|data\.parts|runs|predictions|adapters)(\..*)?"
    r"|evaluation\.(batch_size|num_workers|image_cache|bootstrap_samples|slices|perplexity|submission)"
    r"|training\.(num_workers|image_cache|log_every|keep_checkpoints|save_every|resume|self_check)"
)
_MIXTURE_SETTINGS = ("repeat", "weight", "shots")
"""What part of the data has to do with every other one."""
_TRAINED_BY_RUN = "trained by the run"
_TRAINING_SETTINGS = re.compile(r"(training|adapter)\.(?!path$|bits$).*")


@dataclass(frozen=True)
class RunPart:
    """One part of one run."""

    run: RunFolder
    part: str

    @cached_property
    def recipe(self) -> str:
        """`finetune` or `evaluate`; empty where the run has no configuration."""
        told = re.match(r"(?:# @package.*\n)?# A run of (\w+)", self.run.config_yaml)
        return told[1] if told else ""

    @cached_property
    def metric_values(self) -> dict[str, MetricValue]:
        """What the run reports of the part, with its own intervals, by name."""
        of_run = metric_values(self.run.metrics | {"before": None})
        return {number.name: number for number in of_run if number.part == self.part}

    @cached_property
    def examples(self) -> dict[ExampleKey, EvaluatedExample]:
        """What the model wrote, in the order of `predictions.jsonl`."""
        seen: Counter[str] = Counter()
        found: dict[ExampleKey, EvaluatedExample] = {}
        for judged in self.run.examples:
            if judged.part == self.part:
                found[judged.id, seen[judged.id]] = judged
                seen[judged.id] += 1
        return found

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What the run was told about this part: dotted key -> value, options chosen included."""
        told = dict(self.run.config)
        data = told.get("data")
        parts = data.get("parts") if isinstance(data, dict) else None
        shares: dict[str, Any] = {}
        if isinstance(parts, dict) and self.part in parts:
            told |= {name: parts[self.part].get(name) for name in ("data", "task")}
            shares = {
                f"data.parts.{part}.{k}": parts[part].get(k)
                for part in parts
                for k in _MIXTURE_SETTINGS
            }
        flat = {k: v for k, v in _flatten(told) if not _IGNORED_SETTINGS.fullmatch(k)}
        flat |= {k: v for k, v in shares.items() if self.recipe == "finetune"}
        if self.recipe == "evaluate":  # an adapter that is only read brings its own rank and more
            flat = {k: v for k, v in flat.items() if not _TRAINING_SETTINGS.fullmatch(k)}
        if self.recipe == "finetune" and flat.get("adapter.path", "") is None:
            flat["adapter.path"] = _TRAINED_BY_RUN
        chosen = {
            group: option for group, option in self.run.config_choices.items() if "@" not in group
        }
        return {"recipe": self.recipe, **chosen, **flat}

    def is_comparable(self, other: "RunPart") -> bool:
        """Tell whether both judge the same part of the same data, be it by other examples."""
        if self.part != other.part:
            return False
        one, two = (
            [entry.settings.get(f"data.{name}") for name in ("path", "annotations")]
            for entry in (self, other)
        )
        return one == two or not self.examples.keys().isdisjoint(other.examples)


def read_runs(folders: Sequence[str]) -> tuple[list[RunFolder], list[str]]:
    """Read the folders of runs and sweeps; return the runs, and sentences about jobs that failed.

    Raises DataError where a folder holds no run, or all of them hold one only.
    """
    found: dict[Path, RunFolder] = {}
    failed: list[str] = []
    for folder in folders:
        runs, sentences = _find_runs(Path(folder))
        found |= {path.resolve(): read_run_folder(path) for path in runs}
        failed += sentences
    if len(found) < 2:
        raise DataError(f"{', '.join(folders)}: one run has nothing to be compared with; name more")
    return list(found.values()), failed


def _find_runs(folder: Path) -> tuple[list[Path], list[str]]:
    if (folder / "metrics.json").is_file():
        return [folder], []
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder; name the folder of a run or a sweep")
    runs = sorted(file.parent for file in folder.glob("*/metrics.json"))
    failed: list[str] = []
    if (sweep := folder / "sweep.json").is_file():
        try:
            jobs = json.loads(sweep.read_text(encoding="utf-8"))["jobs"]
            runs = [folder / job["folder"] for job in jobs if job["state"] == "done"]
            failed = [
                f"{job['label']} is left out, it is not done: {job['error'] or job['state']}"
                for job in jobs
                if job["state"] != "done"
            ]
        except (json.JSONDecodeError, KeyError, TypeError) as mistake:
            raise DataError(f"{sweep}: not what a sweep writes; name its runs instead") from mistake
    if not runs:
        why = f" ({'; '.join(failed)})" if failed else ""
        raise DataError(f"{folder}: no finished run is in it{why}; run it first")
    return runs, failed


def differing_settings(run_parts: Sequence[RunPart]) -> dict[str, list[Any]]:
    """Return the settings in which entries differ, a value per entry; None where it has none."""
    keys = dict.fromkeys(key for entry in run_parts for key in entry.settings)
    columns = {key: [entry.settings.get(key) for entry in run_parts] for key in keys}
    return {key: values for key, values in columns.items() if any(v != values[0] for v in values)}


def run_labels(run_parts: Sequence[RunPart]) -> list[str]:
    """Name every entry by the settings that set it apart, else by its folder; all differ."""
    words: list[list[str]] = [[] for _ in run_parts]
    found = differing_settings(run_parts)
    chosen = {group for group in found if "." not in group}
    for key, values in found.items():
        group, _, name = key.partition(".")
        if key != "adapter.path" and name and group in chosen:
            continue  # another model has other settings: its name says so
        if len({repr(e.settings[key]) for e in run_parts if key in e.settings}) < 2:
            continue  # what only one recipe is told: its name says so
        texts = shorten_to_differences([_format_setting(value) for value in values])
        for place, (entry, text) in enumerate(zip(run_parts, texts, strict=True)):
            if key in entry.settings and (word := _label_part(key, text)):
                words[place].append(word)
    named = [
        ", ".join(some[:_MAX_LABEL_PARTS]) + (", …" if len(some) > _MAX_LABEL_PARTS else "")
        or entry.run.path.resolve().name
        for some, entry in zip(words, run_parts, strict=True)
    ]
    count = Counter(named)
    folders = shorten_to_differences([str(entry.run.path.resolve()) for entry in run_parts])
    return [
        name if count[name] == 1 else f"{name} ({folder})"
        for name, folder in zip(named, folders, strict=True)
    ]


def _label_part(key: str, text: str) -> str:
    if key == "adapter.path":
        return {"null": "base model", _TRAINED_BY_RUN: ""}.get(text, f"adapter {text}")
    group, _, name = key.partition(".")
    if part := re.fullmatch(r"parts\.([^.]+)\.(\w+)", name):
        group, name = part.groups()
    return f"{group} {name.rpartition('.')[2]} {text}" if name else text


def _format_setting(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return (
        text
        if len(text) <= _MAX_VALUE_LENGTH or "/" in text
        else text[: _MAX_VALUE_LENGTH - 1] + "…"
    )


def _flatten(values: Mapping[str, Any], parent: str = "") -> list[tuple[str, Any]]:
    flat: list[tuple[str, Any]] = []
    for name, value in values.items():
        if isinstance(value, dict):
            flat += _flatten(value, f"{parent}{name}.")
        else:
            flat.append((f"{parent}{name}", value))
    return flat
