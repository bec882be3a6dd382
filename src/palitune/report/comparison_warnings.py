"""What makes the numbers of several runs incomparable, or less comparable than they look."""

from collections.abc import Iterator, Sequence
from typing import Any

from palitune.report.comparison_runs import Entry

_NOT_PACKAGES = ("python", "device", "system", "machine", "data")
_NAMED_AT_MOST = 3


def all_of(entries: Sequence[Entry], labels: Sequence[str]) -> list[str]:
    """Say in sentences where splits, examples, prompts, metrics, versions or limits differ."""
    return [
        *_splits(entries, labels),
        *_examples(entries, labels),
        *_metrics(entries, labels),
        *_limits(entries, labels),
        *_versions(entries, labels),
    ]


def paired(one: Entry, other: Entry) -> bool:
    """Tell whether two entries were judged on the same examples, by the same references."""
    a, b = one.answers, other.answers
    return bool(a) and a.keys() == b.keys() and all(a[k].reference == b[k].reference for k in a)


def _splits(entries: Sequence[Entry], labels: Sequence[str]) -> Iterator[str]:
    yield from _differ("the splits", [e.run.metrics.get("split") for e in entries], labels)


def _examples(entries: Sequence[Entry], labels: Sequence[str]) -> Iterator[str]:
    if without := [label for e, label in zip(entries, labels, strict=True) if not e.answers]:
        yield (
            f"no differences are told of {_some(without)}: there is no predictions.jsonl beside "
            "the numbers"
        )
    known = [entry for entry in entries if entry.answers]
    if not known:
        return
    first = known[0].answers
    if any(entry.answers.keys() != first.keys() for entry in known):
        common = len(set.intersection(*(set(entry.answers) for entry in known)))
        counts = [len(entry.answers) for entry in known]
        yield (
            f"the runs were judged on different examples ({min(counts)} to {max(counts)} of them, "
            f"{common} in common): numbers on other examples have no difference"
        )
    elif changed := sum(
        any(entry.answers[key].reference != first[key].reference for entry in known)
        for key in first
    ):
        yield f"{changed} of {len(first)} examples have other references in another run"
    shared = set.intersection(*(set(entry.answers) for entry in known))
    key = next((k for k in first if k in shared), None)
    if key is not None:
        prompts = [entry.answers[key].prefix for entry in known]
        named = [label for e, label in zip(entries, labels, strict=True) if e.answers]
        yield from _differ("the prompts", prompts, named)


def _metrics(entries: Sequence[Entry], labels: Sequence[str]) -> Iterator[str]:
    told = [entry.settings.get("task.metrics") or [] for entry in entries]
    if all(told):
        yield from _differ("the metrics", [", ".join(sorted(names)) for names in told], labels)


def _limits(entries: Sequence[Entry], labels: Sequence[str]) -> Iterator[str]:
    for key, what in (("evaluation.limit", "judged"), ("data.limit", "taken")):
        limits = [entry.settings.get(key) for entry in entries]
        if used := [place for place, limit in enumerate(limits) if limit is not None]:
            who = "every run" if len(used) == len(entries) else _some([labels[i] for i in used])
            values = ", ".join(str(limit) for limit in dict.fromkeys(limits[i] for i in used))
            yield (
                f"a limit was used ({key}={values}; {who}): only the first examples were {what}, "
                "so these are not the numbers of the split"
            )


def _versions(entries: Sequence[Entry], labels: Sequence[str]) -> Iterator[str]:
    packages = dict.fromkeys(name for entry in entries for name in entry.run.environment)
    for name in packages:
        if name not in _NOT_PACKAGES:
            versions = [entry.run.environment.get(name) for entry in entries]
            yield from _differ(f"the versions of {name}", versions, labels)


def _differ(what: str, values: Sequence[Any], labels: Sequence[str]) -> Iterator[str]:
    """Say which runs have which value, where they have several."""
    known = dict.fromkeys(values)
    if len(known) < 2:
        return
    told = [
        f"{'unknown' if value is None else value} "
        f"({_some([label for label, own in zip(labels, values, strict=True) if own == value])})"
        for value in known
    ]
    yield f"{what} differ: {'; '.join(told)}"


def _some(labels: Sequence[str]) -> str:
    shown = "; ".join(labels[:_NAMED_AT_MOST])
    more = len(labels) - _NAMED_AT_MOST
    return f"{shown} and {more} more" if more > 0 else shown
