"""Judge answers by the metrics of their task: numbers, intervals, slices, a score per example."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from palitune.data.dataset import TaskDataset
from palitune.distributed import collectives
from palitune.evaluation.bootstrap import ConfidenceInterval, confidence_interval
from palitune.evaluation.config import EvaluationConfig
from palitune.evaluation.output_validity import ObjectValidity
from palitune.evaluation.perplexity import Perplexity
from palitune.evaluation.prediction_records import (
    PredictionRecord,
    PredictionsByDataset,
    to_json_line,
    to_json_record,
)
from palitune.evaluation.resampling import (
    OutputValidity,
    ResampledMetric,
    SliceMetrics,
    bootstrap_metrics,
    slice_metrics,
)
from palitune.evaluation.slices import slice_attributes
from palitune.metrics import METRICS
from palitune.metrics.base import FloatArray
from palitune.paths import write_atomically
from palitune.records import Example, Prediction


@dataclass
class Results:
    """Metrics by `part/name`, how many examples each part had, and every prediction."""

    metrics: dict[str, float] = field(default_factory=dict)
    """Empty for parts that have no references."""
    metric_names_by_dataset: dict[str, list[str]] = field(default_factory=dict)
    """The metrics of each part by their names, which tell the variant."""
    num_examples: dict[str, int] = field(default_factory=dict)
    num_missing: dict[str, int] = field(default_factory=dict)
    """Examples that a file of predictions lacks; a part that lacks none is not among them."""
    predictions: list[dict[str, Any]] = field(default_factory=list)
    bootstrap_values: dict[str, FloatArray] = field(default_factory=dict)
    """Each number in resampled test sets, (test sets,); one without an interval is missing."""
    slices: SliceMetrics = field(default_factory=dict)

    @property
    def confidence_intervals(self) -> dict[str, ConfidenceInterval]:
        """(low, high) of the 95 % interval of each number that has one."""
        return {name: confidence_interval(values) for name, values in self.bootstrap_values.items()}

    def difference_intervals(self, before: "Results") -> dict[str, ConfidenceInterval]:
        """(low, high) of how much higher each number is than `before`; none on other examples."""
        if self.num_examples != before.num_examples:
            return {}
        return {
            name: confidence_interval(values - before.bootstrap_values[name])
            for name, values in self.bootstrap_values.items()
            if name in before.bootstrap_values
        }

    def write_predictions(self, path: Path) -> None:
        """Write `predictions.jsonl` aside and put it in the place of what an evaluation left."""
        with write_atomically(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            file.writelines(map(to_json_line, self.predictions))


def score_predictions(
    datasets: Sequence[TaskDataset],
    predictions: PredictionsByDataset,
    settings: EvaluationConfig,
) -> Results:
    """Score predictions on the main process and return the results on every process."""
    return collectives.run_on_main_process(
        lambda: _score_predictions(datasets, predictions, settings)
    )


def _score_predictions(
    datasets: Sequence[TaskDataset], predictions: PredictionsByDataset, settings: EvaluationConfig
) -> Results:
    """Judge the answers to the first examples of every part; a part without references is kept."""
    results = Results()
    for part, given in zip(datasets, predictions, strict=True):
        examples = part.examples[: len(given)]
        results.num_examples[part.name] = len(given)
        if missing := sum(answer.missing for answer in given):
            results.num_missing[part.name] = missing
        scores: list[dict[str, float]] = [{} for _ in given]
        if part.has_references:
            scores = _score_dataset(part, examples, given, settings, results)
        results.predictions += [
            to_json_record(part.name, *one) for one in zip(examples, given, scores, strict=True)
        ]
    return results


def metric_names(datasets: Sequence[TaskDataset], *, perplexity: bool = False) -> list[str]:
    """Every `part/name` that an evaluation of these parts reports."""
    names = []
    for part in datasets:
        measured: list[ResampledMetric] = [
            *(METRICS[name]() for name in part.task.metrics),
            OutputValidity(),
        ]
        measured += [
            ObjectValidity(part.task, EvaluationConfig()),
            *([Perplexity()] if perplexity else []),
        ]
        names += [f"{part.name}/{name}" for one in measured for name in one.compute()]
    return names


def _score_dataset(
    dataset: TaskDataset,
    examples: Sequence[Example],
    predictions: Sequence[PredictionRecord],
    settings: EvaluationConfig,
    results: Results,
) -> list[dict[str, float]]:
    """Add the numbers of a part to the results; return the scores of every example."""
    metrics, shares, perplexity = (
        [METRICS[m]() for m in dataset.task.metrics],
        OutputValidity(),
        Perplexity(),
    )
    objects = ObjectValidity(dataset.task, settings)
    given: list[list[dict[str, float]]] = [[] for _ in metrics]
    for example, answer in zip(examples, predictions, strict=True):
        value = objects.count_and_deduplicate(example, answer.text, answer.value)
        prediction = Prediction(id=example.id, text=answer.text, value=value)
        for metric, scores in zip(metrics, given, strict=True):
            scores.append(metric.update(example, prediction))
        shares.update(answer.value is None, not answer.finished)
    columns = [
        metric.per_example_scores() or scores for metric, scores in zip(metrics, given, strict=True)
    ]
    measured: list[ResampledMetric] = [*metrics, shares, objects]
    likelihoods = [answer.likelihood for answer in predictions if answer.likelihood]
    if likelihoods and len(likelihoods) == len(predictions):
        columns.append([perplexity.update(likelihood) for likelihood in likelihoods])
        measured.append(perplexity)

    results.metric_names_by_dataset[dataset.name] = list(dataset.task.metrics)
    for one in measured:
        results.metrics |= {f"{dataset.name}/{k}": v for k, v in one.compute().items()}
    images = [example.images for example in examples]
    varied = bootstrap_metrics(measured, images, settings.bootstrap_samples)
    results.bootstrap_values |= {f"{dataset.name}/{k}": v for k, v in varied.items()}
    slices = slice_metrics(measured, [example.attributes for example in examples])
    if settings.slices:
        found = slice_metrics(measured, slice_attributes(examples), min_values=2)
        slices = found | slices
        for metric in metrics:
            for attribute, values in metric.compute_slices().items():
                slices.setdefault(attribute, {}).update(values)
    if slices:
        results.slices[dataset.name] = slices
    return [
        {k: v for column in columns for k, v in column[row].items()}
        for row in range(len(predictions))
    ]
