"""Scoring: metrics, confidence intervals, slices and per-example scores of predictions."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from palitune.codec.parsing import format_json
from palitune.data.dataset import TaskDataset
from palitune.distributed import collectives
from palitune.evaluation.bootstrap import ConfidenceInterval, confidence_interval
from palitune.evaluation.config import EvaluationConfig
from palitune.evaluation.object_quality.summary import error_summary, threshold_summary
from palitune.evaluation.output_validity import ObjectValidity, OutputValidity
from palitune.evaluation.perplexity import Perplexity
from palitune.evaluation.resampling import (
    SliceMetrics,
    bootstrap_metrics,
    slice_metrics,
)
from palitune.evaluation.slices import slice_attributes
from palitune.metrics import METRICS
from palitune.metrics.base import FloatArray, Metric, ResampledMetric
from palitune.paths import write_atomically
from palitune.records import Example, Prediction, prediction_to_json

ExampleScores = list[dict[str, float]]
"""Scores of each example by name."""


@dataclass
class Results:
    """Results of an evaluation. Keys of metrics are `dataset/metric`."""

    metrics: dict[str, float] = field(default_factory=dict)
    """Datasets without references have none."""
    metric_names_by_dataset: dict[str, list[str]] = field(default_factory=dict)
    """Names of the configured metrics of each dataset, with their variant."""
    num_examples: dict[str, int] = field(default_factory=dict)
    num_missing: dict[str, int] = field(default_factory=dict)
    """Examples without a prediction in the file of predictions, for datasets that have any."""
    predictions: list[dict[str, Any]] = field(default_factory=list)
    """The records of `predictions.jsonl`."""
    bootstrap_values: dict[str, FloatArray] = field(default_factory=dict)
    """(test sets,) of each metric on the resampled test sets; absent without an interval."""
    slices: SliceMetrics = field(default_factory=dict)
    error_types: dict[str, Any] = field(default_factory=dict)
    """Errors of each type of the datasets with a metric of boxes or masks."""
    thresholds: dict[str, Any] = field(default_factory=dict)
    """Score of best F1, overall and by class, of the datasets whose objects have scores."""

    @property
    def confidence_intervals(self) -> dict[str, ConfidenceInterval]:
        """The 95 % confidence interval (low, high) of each metric that has one."""
        return {name: confidence_interval(values) for name, values in self.bootstrap_values.items()}

    def difference_intervals(self, before: "Results") -> dict[str, ConfidenceInterval]:
        """Return the 95 % confidence interval of each metric minus that of `before`.

        The result is empty if the two were computed on different examples.
        """
        if self.num_examples != before.num_examples:
            return {}
        return {
            name: confidence_interval(values - before.bootstrap_values[name])
            for name, values in self.bootstrap_values.items()
            if name in before.bootstrap_values
        }

    def write_predictions(self, path: Path) -> None:
        """Write `predictions.jsonl` atomically, replacing the partial file of the evaluation."""
        with write_atomically(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            file.writelines(f"{format_json(r)}\n" for r in self.predictions)


def score_predictions(
    datasets: Sequence[TaskDataset],
    predictions: Sequence[Sequence[Prediction]],
    settings: EvaluationConfig,
) -> Results:
    """Score predictions on the main process and return the results on every rank.

    Args:
        datasets: Evaluated datasets. One without references is not scored, only recorded.
        predictions: Predictions for the first examples of each dataset.
        settings: Evaluation settings.
    """
    return collectives.run_on_main_process(
        lambda: _score_predictions(datasets, predictions, settings)
    )


def _score_predictions(
    datasets: Sequence[TaskDataset],
    predictions: Sequence[Sequence[Prediction]],
    settings: EvaluationConfig,
) -> Results:
    results = Results()
    for dataset, predicted in zip(datasets, predictions, strict=True):
        examples = dataset.examples[: len(predicted)]
        results.num_examples[dataset.name] = len(predicted)
        if num_missing := sum(prediction.missing for prediction in predicted):
            results.num_missing[dataset.name] = num_missing
        scores: ExampleScores = [{} for _ in predicted]
        if dataset.has_references:
            scores = _score_dataset(dataset, examples, predicted, settings, results)
        results.predictions += [
            prediction_to_json(prediction, example, dataset.name, example_scores)
            for prediction, example, example_scores in zip(predicted, examples, scores, strict=True)
        ]
    return results


def metric_names(datasets: Sequence[TaskDataset], *, perplexity: bool = False) -> list[str]:
    """Return the keys of all metrics that an evaluation of these datasets reports."""
    names = []
    for dataset in datasets:
        metrics: list[ResampledMetric] = [
            *(METRICS[name]() for name in dataset.task.metrics),
            OutputValidity(),
            ObjectValidity(dataset.task, EvaluationConfig()),
            *([Perplexity()] if perplexity else []),
        ]
        names += [f"{dataset.name}/{name}" for metric in metrics for name in metric.compute()]
    return names


def _score_dataset(
    dataset: TaskDataset,
    examples: Sequence[Example],
    predictions: Sequence[Prediction],
    settings: EvaluationConfig,
    results: Results,
) -> ExampleScores:
    """Add the metrics of a dataset to the results. Return the scores of every example."""
    task_metrics = [METRICS[name]() for name in dataset.task.metrics]
    output_validity, object_validity = OutputValidity(), ObjectValidity(dataset.task, settings)
    parsed = []
    for example, prediction in zip(examples, predictions, strict=True):
        value = object_validity.count_and_deduplicate(example, prediction.text, prediction.value)
        parsed.append(replace(prediction, value=value))
        output_validity.update(prediction.value is None, not prediction.finished)
    columns: list[ExampleScores] = [[{} for _ in predictions]]
    columns += [_example_scores(metric, examples, parsed) for metric in task_metrics]
    metrics: list[ResampledMetric] = [*task_metrics, output_validity, object_validity]
    likelihoods = [p.likelihood for p in predictions if p.likelihood]
    if likelihoods and len(likelihoods) == len(predictions):
        perplexity = Perplexity()
        columns.append([perplexity.update(likelihood) for likelihood in likelihoods])
        metrics.append(perplexity)

    name = dataset.name
    results.metric_names_by_dataset[name] = list(dataset.task.metrics)
    for metric in metrics:
        results.metrics |= {f"{name}/{key}": value for key, value in metric.compute().items()}
    images = [example.images for example in examples]
    bootstrapped = bootstrap_metrics(metrics, images, settings.bootstrap_samples)
    results.bootstrap_values |= {f"{name}/{key}": values for key, values in bootstrapped.items()}
    if thresholds := threshold_summary(task_metrics, parsed):
        results.thresholds[name] = {"task": dataset.task.name, **thresholds}
    if settings.slices and (error_types := error_summary(task_metrics)):
        results.error_types[name] = error_types
    if slices := _slices(task_metrics, metrics, examples, settings):
        results.slices[name] = slices
    return [
        {key: value for scores in row for key, value in scores.items()}
        for row in zip(*columns, strict=True)
    ]


def _example_scores(
    metric: Metric, examples: Sequence[Example], predictions: Sequence[Prediction]
) -> ExampleScores:
    """Update a metric with all predictions and return the scores of every example."""
    scores = [metric.update(*pair) for pair in zip(examples, predictions, strict=True)]
    return metric.per_example_scores() or scores


def _slices(
    task_metrics: Sequence[Metric],
    metrics: Sequence[ResampledMetric],
    examples: Sequence[Example],
    settings: EvaluationConfig,
) -> dict[str, Any]:
    """Return metrics by attribute and value; the attributes of the data override built-in ones."""
    slices = slice_metrics(metrics, [example.attributes for example in examples])
    if settings.slices:
        slices = slice_metrics(metrics, slice_attributes(examples), min_values=2) | slices
        for metric in task_metrics:
            for attribute, values in metric.compute_slices().items():
                slices.setdefault(attribute, {}).update(values)
    return slices
