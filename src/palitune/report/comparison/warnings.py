"""What makes the numbers of several runs incomparable, or less comparable than they look."""

from collections.abc import Iterator, Sequence
from typing import Any

from palitune.report.comparison.runs import RunPart

_NOT_PACKAGES = ("python", "device", "system", "machine", "data")
_MAX_LABELS = 3


def collect_warnings(run_parts: Sequence[RunPart], labels: Sequence[str]) -> list[str]:
    """Say in sentences where splits, examples, prompts, metrics, versions or limits differ."""
    return [
        *_split_warnings(run_parts, labels),
        *_example_warnings(run_parts, labels),
        *_metric_warnings(run_parts, labels),
        *_limit_warnings(run_parts, labels),
        *_version_warnings(run_parts, labels),
    ]


def is_paired(first: RunPart, second: RunPart) -> bool:
    """Tell whether two entries were judged on the same examples, by the same references."""
    a, b = first.examples, second.examples
    return bool(a) and a.keys() == b.keys() and all(a[k].reference == b[k].reference for k in a)


def _split_warnings(run_parts: Sequence[RunPart], labels: Sequence[str]) -> Iterator[str]:
    yield from _difference_warning(
        "the splits", [e.run.metrics.get("split") for e in run_parts], labels
    )


def _example_warnings(run_parts: Sequence[RunPart], labels: Sequence[str]) -> Iterator[str]:
    if without := [label for e, label in zip(run_parts, labels, strict=True) if not e.examples]:
        yield (
            f"no differences are told of {_join_labels(without)}: there is no predictions.jsonl beside "
            "the numbers"
        )
    known = [entry for entry in run_parts if entry.examples]
    if not known:
        return
    first = known[0].examples
    if any(entry.examples.keys() != first.keys() for entry in known):
        common = len(set.intersection(*(set(entry.examples) for entry in known)))
        counts = [len(entry.examples) for entry in known]
        yield (
            f"the runs were judged on different examples ({min(counts)} to {max(counts)} of them, "
            f"{common} in common): numbers on other examples have no difference"
        )
    elif changed := sum(
        any(entry.examples[key].reference != first[key].reference for entry in known)
        for key in first
    ):
        yield f"{changed} of {len(first)} examples have other references in another run"
    shared = set.intersection(*(set(entry.examples) for entry in known))
    key = next((k for k in first if k in shared), None)
    if key is not None:
        prompts = [entry.examples[key].prefix for entry in known]
        named = [label for e, label in zip(run_parts, labels, strict=True) if e.examples]
        yield from _difference_warning("the prompts", prompts, named)


def _metric_warnings(run_parts: Sequence[RunPart], labels: Sequence[str]) -> Iterator[str]:
    told = [entry.settings.get("task.metrics") or [] for entry in run_parts]
    if all(told):
        yield from _difference_warning(
            "the metrics", [", ".join(sorted(names)) for names in told], labels
        )


def _limit_warnings(run_parts: Sequence[RunPart], labels: Sequence[str]) -> Iterator[str]:
    for key, what in (("evaluation.max_samples", "judged"), ("data.max_samples", "taken")):
        limits = [entry.settings.get(key) for entry in run_parts]
        if used := [place for place, limit in enumerate(limits) if limit is not None]:
            who = (
                "every run"
                if len(used) == len(run_parts)
                else _join_labels([labels[i] for i in used])
            )
            values = ", ".join(str(limit) for limit in dict.fromkeys(limits[i] for i in used))
            yield (
                f"a limit was used ({key}={values}; {who}): only the first examples were {what}, "
                "so these are not the numbers of the split"
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
    """Say which runs have which value, where they have several."""
    known = dict.fromkeys(values)
    if len(known) < 2:
        return
    told = [
        f"{'unknown' if value is None else value} "
        f"({_join_labels([label for label, own in zip(labels, values, strict=True) if own == value])})"
        for value in known
    ]
    yield f"{subject} differ: {'; '.join(told)}"


def _join_labels(labels: Sequence[str]) -> str:
    shown = "; ".join(labels[:_MAX_LABELS])
    more = len(labels) - _MAX_LABELS
    return f"{shown} and {more} more" if more > 0 else shown
