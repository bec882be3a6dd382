"""The runs that are compared: read from their folders, part by part, and named by what differs."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from palitune.examples import DataError
from palitune.report.labels import told_apart
from palitune.report.run_folder import Judged, RunFolder, read
from palitune.report.summary import Number, numbers

Key = tuple[str, int]
"""An example of a part: its id, and which of the examples with that id it is."""

_MOST_WORDS = 4
_LONGEST_VALUE = 40
# What neither the weights nor the answers of a run depend on.
_IRRELEVANT = re.compile(
    r"(tracking|launch|defaults|evaluate_before|data\.parts|runs|predictions|adapters)(\..*)?"
    r"|evaluation\.(batch_size|workers|image_store|resamples|slices|perplexity|submission)"
    r"|training\.(workers|image_store|log_every|keep_checkpoints|save_every|resume|self_check)"
)
_SHARE = ("repeat", "weight", "shots")
"""What part of the data has to do with every other one."""
_TRAINED = "trained by the run"
_OF_TRAINING = re.compile(r"(training|adapter)\.(?!path$|bits$).*")


@dataclass(frozen=True)
class Entry:
    """One part of one run."""

    run: RunFolder
    part: str

    @cached_property
    def recipe(self) -> str:
        """`finetune` or `evaluate`; empty where the run has no configuration."""
        told = re.match(r"(?:# @package.*\n)?# A run of (\w+)", self.run.configuration)
        return told[1] if told else ""

    @cached_property
    def numbers(self) -> dict[str, Number]:
        """What the run reports of the part, with its own intervals, by name."""
        of_run = numbers(self.run.metrics | {"before": None})
        return {number.name: number for number in of_run if number.part == self.part}

    @cached_property
    def answers(self) -> dict[Key, Judged]:
        """What the model wrote, in the order of `predictions.jsonl`."""
        seen: Counter[str] = Counter()
        found: dict[Key, Judged] = {}
        for judged in self.run.judged:
            if judged.part == self.part:
                found[judged.id, seen[judged.id]] = judged
                seen[judged.id] += 1
        return found

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What the run was told about this part: dotted key -> value, options chosen included."""
        told = dict(self.run.settings)
        data = told.get("data")
        parts = data.get("parts") if isinstance(data, dict) else None
        shares: dict[str, Any] = {}
        if isinstance(parts, dict) and self.part in parts:
            told |= {name: parts[self.part].get(name) for name in ("data", "task")}
            shares = {
                f"data.parts.{part}.{k}": parts[part].get(k) for part in parts for k in _SHARE
            }
        flat = {k: v for k, v in _flat(told) if not _IRRELEVANT.fullmatch(k)}
        flat |= {k: v for k, v in shares.items() if self.recipe == "finetune"}
        if self.recipe == "evaluate":  # an adapter that is only read brings its own rank and more
            flat = {k: v for k, v in flat.items() if not _OF_TRAINING.fullmatch(k)}
        if self.recipe == "finetune" and flat.get("adapter.path", "") is None:
            flat["adapter.path"] = _TRAINED
        chosen = {group: option for group, option in self.run.choices.items() if "@" not in group}
        return {"recipe": self.recipe, **chosen, **flat}

    def goes_with(self, other: "Entry") -> bool:
        """Tell whether both judge the same part of the same data, be it by other examples."""
        if self.part != other.part:
            return False
        one, two = (
            [entry.settings.get(f"data.{name}") for name in ("path", "annotations")]
            for entry in (self, other)
        )
        return one == two or not self.answers.keys().isdisjoint(other.answers)


def read_runs(folders: Sequence[str]) -> tuple[list[RunFolder], list[str]]:
    """Read the folders of runs and sweeps; return the runs, and sentences about jobs that failed.

    Raises DataError where a folder holds no run, or all of them hold one only.
    """
    found: dict[Path, RunFolder] = {}
    failed: list[str] = []
    for folder in folders:
        runs, sentences = _runs_in(Path(folder))
        found |= {path.resolve(): read(path) for path in runs}
        failed += sentences
    if len(found) < 2:
        raise DataError(f"{', '.join(folders)}: one run has nothing to be compared with; name more")
    return list(found.values()), failed


def _runs_in(folder: Path) -> tuple[list[Path], list[str]]:
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
                f"{job['label']} is left out, it is not done: {job['said'] or job['state']}"
                for job in jobs
                if job["state"] != "done"
            ]
        except (json.JSONDecodeError, KeyError, TypeError) as mistake:
            raise DataError(f"{sweep}: not what a sweep writes; name its runs instead") from mistake
    if not runs:
        why = f" ({'; '.join(failed)})" if failed else ""
        raise DataError(f"{folder}: no finished run is in it{why}; run it first")
    return runs, failed


def differing(entries: Sequence[Entry]) -> dict[str, list[Any]]:
    """Return the settings in which entries differ, a value per entry; None where it has none."""
    keys = dict.fromkeys(key for entry in entries for key in entry.settings)
    columns = {key: [entry.settings.get(key) for entry in entries] for key in keys}
    return {key: values for key, values in columns.items() if any(v != values[0] for v in values)}


def labels(entries: Sequence[Entry]) -> list[str]:
    """Name every entry by the settings that set it apart, else by its folder; all differ."""
    words: list[list[str]] = [[] for _ in entries]
    found = differing(entries)
    chosen = {group for group in found if "." not in group}
    for key, values in found.items():
        group, _, name = key.partition(".")
        if key != "adapter.path" and name and group in chosen:
            continue  # another model has other settings: its name says so
        if len({repr(e.settings[key]) for e in entries if key in e.settings}) < 2:
            continue  # what only one recipe is told: its name says so
        texts = told_apart([_text(value) for value in values])
        for place, (entry, text) in enumerate(zip(entries, texts, strict=True)):
            if key in entry.settings and (word := _word(key, text)):
                words[place].append(word)
    named = [
        ", ".join(some[:_MOST_WORDS]) + (", …" if len(some) > _MOST_WORDS else "")
        or entry.run.path.resolve().name
        for some, entry in zip(words, entries, strict=True)
    ]
    count = Counter(named)
    folders = told_apart([str(entry.run.path.resolve()) for entry in entries])
    return [
        name if count[name] == 1 else f"{name} ({folder})"
        for name, folder in zip(named, folders, strict=True)
    ]


def _word(key: str, text: str) -> str:
    if key == "adapter.path":
        return {"null": "base model", _TRAINED: ""}.get(text, f"adapter {text}")
    group, _, name = key.partition(".")
    if part := re.fullmatch(r"parts\.([^.]+)\.(\w+)", name):
        group, name = part.groups()
    return f"{group} {name.rpartition('.')[2]} {text}" if name else text


def _text(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= _LONGEST_VALUE or "/" in text else text[: _LONGEST_VALUE - 1] + "…"


def _flat(values: Mapping[str, Any], above: str = "") -> list[tuple[str, Any]]:
    flat: list[tuple[str, Any]] = []
    for name, value in values.items():
        if isinstance(value, dict):
            flat += _flat(value, f"{above}{name}.")
        else:
            flat.append((f"{above}{name}", value))
    return flat
