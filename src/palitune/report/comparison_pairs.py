"""How sure the difference of two runs is: both judged on the same test sets, drawn anew alike.

A number that is the mean of per-example scores is drawn from those that `predictions.jsonl` holds;
any other (average precision, error rates, cumulative IoU) is judged again from answers and
references there. A number that comes out other than the run reported it has no difference.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from palitune.evaluation.intervals import FEWEST, resample
from palitune.evaluation.varied import Measured
from palitune.examples import Example, Prediction
from palitune.metrics import METRICS, MetricError
from palitune.metrics.base import CorpusMeanMetric, Counts, Floats, MeanMetric, weighted_mean
from palitune.report.comparison_runs import Entry, Key
from palitune.report.run_folder import Judged

_EQUAL = 1e-9


class _Means:
    """Numbers that are means of per-example scores."""

    def __init__(self, scores: Mapping[str, Sequence[float]]) -> None:
        self.scores = scores

    def compute(self) -> dict[str, float]:
        return {name: float(np.mean(values)) for name, values in self.scores.items()}

    def weighted(self, counts: Counts) -> dict[str, Floats]:
        return {name: weighted_mean(counts, values) for name, values in self.scores.items()}


def drawn(entry: Entry, order: Sequence[Key], resamples: int) -> dict[str, Floats]:
    """Return the numbers of an entry in resampled test sets, (test sets,) by name.

    `order` is that of the examples, the same for all entries that are compared. Empty where the
    images are too few to say anything about others.
    """
    judged = [entry.answers[key] for key in order]
    images = [one.images for one in judged]
    if not resamples or len(set(images)) < FEWEST:
        return {}
    blocks: dict[str, list[Floats]] = {}
    measured = _measured(entry, judged)
    reported = {name: number.after for name, number in entry.numbers.items()}
    known = {
        name
        for one in measured
        for name, value in one.compute().items()
        if math.isclose(value, reported.get(name, math.nan), rel_tol=_EQUAL, abs_tol=_EQUAL)
    }
    # Images are named by their order, which is the same for every run: their paths may differ.
    for counts in resample(_numbered(images), resamples=resamples):
        for one in measured:
            for name, values in one.weighted(counts).items():
                if name in known:
                    blocks.setdefault(name, []).append(values)
    return {name: np.concatenate(values) for name, values in blocks.items()}


def _numbered(images: Sequence[tuple[str, ...]]) -> list[int]:
    numbers: dict[tuple[str, ...], int] = {}
    return [numbers.setdefault(one, len(numbers)) for one in images]


def _measured(entry: Entry, judged: Sequence[Judged]) -> list[Measured]:
    """What tells the numbers of an entry in other test sets made of its examples."""
    scores: dict[str, list[float]] = {
        "malformed": [float(one.after.value is None) for one in judged]
    }
    again: list[Measured] = []
    for name in entry.settings.get("task.metrics") or judged[0].after.scores:
        try:
            metric = METRICS[name]()
        except (KeyError, MetricError):  # of another version, or its program is missing here
            continue
        if isinstance(metric, MeanMetric | CorpusMeanMetric):
            own = [one.after.scores.get(name, math.nan) for one in judged]
            scores |= {name: own} if all(map(math.isfinite, own)) else {}
            continue
        for one in judged:
            metric.update(
                _example(one), Prediction(id=one.id, text=one.after.text, value=one.after.value)
            )
        again.append(metric)
    return [_Means(scores), *again]


def _example(judged: Judged) -> Example:
    return Example(
        id=judged.id,
        images=judged.images,
        size=judged.size,
        prefix=judged.prefix,
        suffixes=(),
        reference=judged.reference,
        place=f"example {judged.id}",
        part=judged.part,
        attributes=judged.attributes,
    )
