"""Warnings about differences between runs that make their metrics hard to compare."""

from collections.abc import Iterator, Sequence
from typing import Any

from palitune.report.comparison.runs import RunPart

_NOT_PACKAGES = ("python", "device", "system", "machine", "data", "network")
_MAX_LABELS = 3


def collect_warnings(run_parts: Sequence[RunPart], labels: Sequence[str]) -> list[str]:
    """Return sentences about differing splits, examples, prompts, metrics, versions and limits."""
    return [
        *_split_warnings(run_parts, labels),
        *_example_warnings(run_parts, labels),
        *_missing_warnings(run_parts, labels),
        *_metric_warnings(run_parts, labels),
        *_limit_warnings(run_parts, labels),
        *_version_warnings(run_parts, labels),
    ]


def is_paired(first: RunPart, second: RunPart) -> bool:
    """Return whether both were evaluated on the same examples with the same references."""
    a, b = first.examples, second.examples
    return bool(a) and a.keys() == b.keys() and all(a[k].reference == b[k].reference for k in a)


def _split_warnings(run_parts: Sequence[RunPart], labels: Sequence[str]) -> Iterator[str]:
    yield from _difference_warning(
        "the splits", [e.run.metrics.get("split") for e in run_parts], labels
    )


def _example_warnings(run_parts: Sequence[RunPart], labels: Sequence[str]) -> Iterator[str]:
    if without := [label for e, label in zip(run_parts, labels, strict=True) if not e.examples]:
        yield (
            f"differences to {_join_labels(without)} are unknown, because predictions.jsonl is "
            "missing"
        )
    complete = [entry for entry in run_parts if entry.examples]
    if not complete:
        return
    first = complete[0].examples
    if any(entry.examples.keys() != first.keys() for entry in complete):
        common = len(set.intersection(*(set(entry.examples) for entry in complete)))
        counts = [len(entry.examples) for entry in complete]
        yield (
            f"the runs were evaluated on different examples ({min(counts)} to {max(counts)}, "
            f"{common} in common), so their differences are not computed"
        )
    elif changed := sum(
        any(entry.examples[key].reference != first[key].reference for entry in complete)
        for key in first
    ):
        yield f"{changed} of {len(first)} examples have different references"
    shared = set.intersection(*(set(entry.examples) for entry in complete))
    key = next((k for k in first if k in shared), None)
    if key is not None:
        prompts = [entry.examples[key].prefix for entry in complete]
        with_examples = [label for e, label in zip(run_parts, labels, strict=True) if e.examples]
        yield from _difference_warning("the prompts", prompts, with_examples)


def _missing_warnings(run_parts: Sequence[RunPart], labels: Sequence[str]) -> Iterator[str]:
    for entry, label in zip(run_parts, labels, strict=True):
        if count := entry.run.metrics.get("missing", {}).get(entry.part):
            yield (
                f"{label}: {count} of {entry.run.metrics['examples'][entry.part]} examples have no "
                "prediction and are scored as empty"
            )


def _metric_warnings(run_parts: Sequence[RunPart], labels: Sequence[str]) -> Iterator[str]:
    metrics = [entry.settings.get("task.metrics") or [] for entry in run_parts]
    if all(metrics):
        yield from _difference_warning(
            "the metrics", [", ".join(sorted(names)) for names in metrics], labels
        )


def _limit_warnings(run_parts: Sequence[RunPart], labels: Sequence[str]) -> Iterator[str]:
    for key in ("evaluation.max_samples", "data.max_samples"):
        limits = {
            label: entry.settings[key]
            for entry, label in zip(run_parts, labels, strict=True)
            if entry.settings.get(key) is not None
        }
        if limits:
            runs = "all runs" if len(limits) == len(run_parts) else _join_labels(list(limits))
            values = ", ".join(map(str, dict.fromkeys(limits.values())))
            yield (
                f"a limit was used ({key}={values}; {runs}): only the first examples were "
                "evaluated, so these are not the metrics of the whole split"
            )


def _version_warnings(run_parts: Sequence[RunPart], labels: Sequence[str]) -> Iterator[str]:
    packages = dict.fromkeys(name for entry in run_parts for name in entry.run.environment)
    for name in packages:
        if name not in _NOT_PACKAGES:
            versions = [entry.run.environment.get(name) for entry in run_parts]
            yield from _difference_warning(f"the versions of {name}", versions, labels)


def _difference_warning(
    subject: str, values: Sequence[Any], labels: Sequence[str]
) -> Iterator[str]:
    """Yield a sentence with the values and their runs, if there are several values."""
    runs: dict[Any, list[str]] = {}
    for label, value in zip(labels, values, strict=True):
        runs.setdefault(value, []).append(label)
    if len(runs) > 1:
        differences = [
            f"{'unknown' if value is None else value} ({_join_labels(labels_of_value)})"
            for value, labels_of_value in runs.items()
        ]
        yield f"{subject} differ: {'; '.join(differences)}"


def _join_labels(labels: Sequence[str]) -> str:
    first = "; ".join(labels[:_MAX_LABELS])
    more = len(labels) - _MAX_LABELS
    return f"{first} and {more} more" if more > 0 else first
