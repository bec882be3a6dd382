"""Runs of a comparison: read from their folders and labeled by the settings that differ."""

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
from palitune.report.text import truncate

ExampleKey = tuple[str, int]
"""Id of an example, and its position among the examples with that id."""

_MAX_LABEL_PARTS = 4
_MAX_VALUE_LENGTH = 40
# Settings that change neither the weights nor the predictions of a run.
_IGNORED_SETTINGS = re.compile(
    r"(tracking|launch|defaults|evaluate_before|data\.parts|runs|predictions|adapters)(\..*)?"
    r"|evaluation\.(batch_size|num_workers|image_cache|bootstrap_samples|slices|perplexity|submission)"
    r"|training\.(num_workers|image_cache|log_every|keep_checkpoints|save_every|resume|self_check)"
)
_MIXTURE_SETTINGS = ("repeat", "weight", "shots")
"""Settings of a component that affect all parts."""
_TRAINED_BY_RUN = "trained by the run"
_TRAINING_SETTINGS = re.compile(r"(training|adapter)\.(?!path$|bits$).*")
_SCORING_SETTINGS = re.compile(r"(data|task|evaluation)\b")


@dataclass(frozen=True)
class RunPart:
    """One part of one run."""

    run: RunFolder
    part: str

    @cached_property
    def recipe(self) -> str:
        """`finetune` or `evaluate`; empty if the run has no configuration."""
        match = re.match(r"(?:# @package.*\n)?# A run of (\w+)", self.run.config_yaml)
        return match[1] if match else ""

    @cached_property
    def predictions_file(self) -> str | None:
        """Name of the file of predictions that were scored; None for a model's own."""
        file = self.run.config.get("predictions")
        return Path(file).name if isinstance(file, str) else None

    @cached_property
    def metric_values(self) -> dict[str, MetricValue]:
        """Metrics of the part with their intervals, by name."""
        metrics = metric_values(self.run.metrics | {"before": None})
        return {metric.name: metric for metric in metrics if metric.part == self.part}

    @cached_property
    def examples(self) -> dict[ExampleKey, EvaluatedExample]:
        """Evaluated examples in the order of `predictions.jsonl`."""
        seen: Counter[str] = Counter()
        examples: dict[ExampleKey, EvaluatedExample] = {}
        for example in self.run.examples:
            if example.part == self.part:
                examples[example.id, seen[example.id]] = example
                seen[example.id] += 1
        return examples

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Settings of the run for this part by dotted key, with the chosen options by group."""
        config = dict(self.run.config)
        data = config.get("data")
        parts = data.get("parts") if isinstance(data, dict) else None
        mixture: dict[str, Any] = {}
        if isinstance(parts, dict) and self.part in parts:
            config |= {name: parts[self.part].get(name) for name in ("data", "task")}
            mixture = {
                f"data.parts.{part}.{k}": parts[part].get(k)
                for part in parts
                for k in _MIXTURE_SETTINGS
            }
        flat = {k: v for k, v in _flatten(config) if not _IGNORED_SETTINGS.fullmatch(k)}
        flat |= {k: v for k, v in mixture.items() if self.recipe == "finetune"}
        if self.recipe == "evaluate":  # a loaded adapter has its own rank
            flat = {k: v for k, v in flat.items() if not _TRAINING_SETTINGS.fullmatch(k)}
        if self.recipe == "finetune" and flat.get("adapter.path", "") is None:
            flat["adapter.path"] = _TRAINED_BY_RUN
        chosen = {
            group: option for group, option in self.run.config_choices.items() if "@" not in group
        }
        settings = {"recipe": self.recipe, **chosen, **flat}
        if self.predictions_file is None:
            return settings
        # Model and adapter are those of the run whose configuration was used.
        return {k: v for k, v in settings.items() if _SCORING_SETTINGS.match(k)}

    def is_comparable(self, other: "RunPart") -> bool:
        """Return whether both are evaluations of the same part of the same data."""
        if self.part != other.part:
            return False
        first, second = (
            [entry.settings.get(f"data.{name}") for name in ("path", "annotations")]
            for entry in (self, other)
        )
        return first == second or not self.examples.keys().isdisjoint(other.examples)


def read_runs(folders: Sequence[str]) -> tuple[list[RunFolder], list[str]]:
    """Read folders of runs and sweeps; return the runs, and sentences about failed jobs.

    Raises:
        DataError: A folder has no finished run, or there are fewer than two runs in total.
    """
    all_runs: dict[Path, RunFolder] = {}
    failed: list[str] = []
    for folder in folders:
        runs, sentences = _find_runs(Path(folder))
        all_runs |= {path.resolve(): read_run_folder(path) for path in runs}
        failed += sentences
    if len(all_runs) < 2:
        raise DataError(
            f"{', '.join(folders)}: a comparison needs at least two runs. Add more folders."
        )
    return list(all_runs.values()), failed


def first_run(folders: Sequence[str]) -> RunFolder:
    """Return the first finished run of the folders. Raises DataError if the first has none."""
    [path, *_], _ = _find_runs(Path(folders[0]))
    return read_run_folder(path)


def _find_runs(folder: Path) -> tuple[list[Path], list[str]]:
    if (folder / "metrics.json").is_file():
        return [folder], []
    if not folder.is_dir():
        raise DataError(f"{folder} does not exist. Give the folder of a run or a sweep, or a file.")
    runs = sorted(file.parent for file in folder.glob("*/metrics.json"))
    failed: list[str] = []
    if (sweep := folder / "sweep.json").is_file():
        try:
            jobs = json.loads(sweep.read_text(encoding="utf-8"))["jobs"]
            runs = [folder / job["folder"] for job in jobs if job["state"] == "done"]
            failed = [
                f"{job['label']} is not finished and not compared: {job['error'] or job['state']}"
                for job in jobs
                if job["state"] != "done"
            ]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise DataError(f"{sweep} is damaged. Give the folders of the runs.") from error
    if not runs:
        reason = f" ({'; '.join(failed)})" if failed else ""
        raise DataError(f"{folder} contains no finished run{reason}. Start the runs first.")
    return runs, failed


def differing_settings(run_parts: Sequence[RunPart]) -> dict[str, list[Any]]:
    """Return the settings that differ, with a value per run part; None: not set."""
    keys = dict.fromkeys(key for entry in run_parts for key in entry.settings)
    columns = {key: [entry.settings.get(key) for entry in run_parts] for key in keys}
    return {key: values for key, values in columns.items() if any(v != values[0] for v in values)}


def run_labels(run_parts: Sequence[RunPart]) -> list[str]:
    """Return a unique label for each run part: the settings that differ, else its folder.

    The label of scored predictions is the name of their file.
    """
    trained = iter(_labels_by_settings([e for e in run_parts if e.predictions_file is None]))
    labels = [
        next(trained) if e.predictions_file is None else Path(e.predictions_file).stem
        for e in run_parts
    ]
    count = Counter(labels)
    folders = shorten_to_differences([str(entry.run.path.resolve()) for entry in run_parts])
    return [
        label if count[label] == 1 else f"{label} ({folder})"
        for label, folder in zip(labels, folders, strict=True)
    ]


def _labels_by_settings(run_parts: Sequence[RunPart]) -> list[str]:
    words: list[list[str]] = [[] for _ in run_parts]
    settings = differing_settings(run_parts)
    chosen = {group for group in settings if "." not in group}
    for key, values in settings.items():
        group, _, name = key.partition(".")
        if key != "adapter.path" and name and group in chosen:
            continue  # implied by another option of the group
        if len({repr(e.settings[key]) for e in run_parts if key in e.settings}) < 2:
            continue  # a setting of one recipe only, which the label names
        texts = shorten_to_differences([_format_setting(value) for value in values])
        for words_of_entry, entry, text in zip(words, run_parts, texts, strict=True):
            if key in entry.settings and (word := _label_part(key, text)):
                words_of_entry.append(word)
    return [
        ", ".join(parts[:_MAX_LABEL_PARTS]) + (", …" if len(parts) > _MAX_LABEL_PARTS else "")
        or entry.run.path.resolve().name
        for parts, entry in zip(words, run_parts, strict=True)
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
    return text if "/" in text else truncate(text, _MAX_VALUE_LENGTH)


def _flatten(values: Mapping[str, Any], parent: str = "") -> list[tuple[str, Any]]:
    flat: list[tuple[str, Any]] = []
    for name, value in values.items():
        if isinstance(value, dict):
            flat += _flatten(value, f"{parent}{name}.")
        else:
            flat.append((f"{parent}{name}", value))
    return flat
