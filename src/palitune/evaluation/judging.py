"""Judge answers by the metrics of their task: numbers, intervals, slices, a score per example."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from palitune.data.dataset import Part
from palitune.evaluation.intervals import Interval, interval
from palitune.evaluation.object_shares import ObjectShares
from palitune.evaluation.perplexity import Perplexity
from palitune.evaluation.records import Answer, Answers, line, to_record
from palitune.evaluation.settings import Evaluation
from palitune.evaluation.slices import attributes_of
from palitune.evaluation.varied import Measured, Shares, Slices, resampled, sliced
from palitune.examples import Example, Prediction
from palitune.metrics import METRICS
from palitune.metrics.base import Floats


@dataclass
class Results:
    """Metrics by `part/name`, how many examples each part had, and every prediction."""

    metrics: dict[str, float] = field(default_factory=dict)
    """Empty for parts that have no references."""
    judged_by: dict[str, list[str]] = field(default_factory=dict)
    """The metrics of each part by their names, which tell the variant."""
    examples: dict[str, int] = field(default_factory=dict)
    missing: dict[str, int] = field(default_factory=dict)
    """Examples that a file of predictions lacks; a part that lacks none is not among them."""
    predictions: list[dict[str, Any]] = field(default_factory=list)
    resampled: dict[str, Floats] = field(default_factory=dict)
    """Each number in resampled test sets, (test sets,); one without an interval is missing."""
    slices: Slices = field(default_factory=dict)

    @property
    def intervals(self) -> dict[str, Interval]:
        """(low, high) of the 95 % interval of each number that has one."""
        return {name: interval(values) for name, values in self.resampled.items()}

    def intervals_of_change(self, before: "Results") -> dict[str, Interval]:
        """(low, high) of how much higher each number is than `before`; none on other examples."""
        if self.examples != before.examples:
            return {}
        return {
            name: interval(values - before.resampled[name])
            for name, values in self.resampled.items()
            if name in before.resampled
        }

    def write_predictions(self, path: Path) -> None:
        """Write `predictions.jsonl` aside and put it in the place of what an evaluation left."""
        aside = path.with_name(f".{path.name}.new")
        with aside.open("w", encoding="utf-8") as file:
            file.writelines(map(line, self.predictions))
        os.replace(aside, path)


def judge(parts: Sequence[Part], answers: Answers, settings: Evaluation) -> Results:
    """Judge the answers to the first examples of every part; a part without references is kept."""
    results = Results()
    for part, given in zip(parts, answers, strict=True):
        examples = part.examples[: len(given)]
        results.examples[part.name] = len(given)
        if missing := sum(answer.missing for answer in given):
            results.missing[part.name] = missing
        scores: list[dict[str, float]] = [{} for _ in given]
        if part.is_answered:
            scores = _judge(part, examples, given, settings, results)
        results.predictions += [
            to_record(part.name, *one) for one in zip(examples, given, scores, strict=True)
        ]
    return results


def metric_names(parts: Sequence[Part], *, perplexity: bool = False) -> list[str]:
    """Every `part/name` that an evaluation of these parts reports."""
    names = []
    for part in parts:
        measured: list[Measured] = [*(METRICS[name]() for name in part.task.metrics), Shares()]
        measured += [ObjectShares(part.task, Evaluation()), *([Perplexity()] if perplexity else [])]
        names += [f"{part.name}/{name}" for one in measured for name in one.compute()]
    return names


def _judge(
    part: Part,
    examples: Sequence[Example],
    answers: Sequence[Answer],
    settings: Evaluation,
    results: Results,
) -> list[dict[str, float]]:
    """Add the numbers of a part to the results; return the scores of every example."""
    metrics, shares, perplexity = [METRICS[m]() for m in part.task.metrics], Shares(), Perplexity()
    objects = ObjectShares(part.task, settings)
    given: list[list[dict[str, float]]] = [[] for _ in metrics]
    for example, answer in zip(examples, answers, strict=True):
        value = objects.judge(example, answer.text, answer.value)
        prediction = Prediction(id=example.id, text=answer.text, value=value)
        for metric, scores in zip(metrics, given, strict=True):
            scores.append(metric.update(example, prediction))
        shares.update(answer.value is None, not answer.finished)
    columns = [
        metric.corpus_scores() or scores for metric, scores in zip(metrics, given, strict=True)
    ]
    measured: list[Measured] = [*metrics, shares, objects]
    likelihoods = [answer.likelihood for answer in answers if answer.likelihood]
    if likelihoods and len(likelihoods) == len(answers):
        columns.append([perplexity.update(likelihood) for likelihood in likelihoods])
        measured.append(perplexity)

    results.judged_by[part.name] = list(part.task.metrics)
    for one in measured:
        results.metrics |= {f"{part.name}/{k}": v for k, v in one.compute().items()}
    images = [example.images for example in examples]
    varied = resampled(measured, images, settings.resamples)
    results.resampled |= {f"{part.name}/{k}": v for k, v in varied.items()}
    slices = sliced(measured, [example.attributes for example in examples])
    if settings.slices:
        found = sliced(measured, attributes_of(examples), least=2)
        slices = found | slices
        for metric in metrics:
            for attribute, values in metric.slices().items():
                slices.setdefault(attribute, {}).update(values)
    if slices:
        results.slices[part.name] = slices
    return [
        {k: v for column in columns for k, v in column[row].items()} for row in range(len(answers))
    ]
