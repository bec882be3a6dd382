"""One loop for every task: batches -> generate -> parse -> metric -> predictions."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch.utils.data import DataLoader

from palitune.data.collator import Batch, Collator
from palitune.data.dataset import Part
from palitune.evaluation.intervals import Interval, interval
from palitune.evaluation.settings import Evaluation
from palitune.evaluation.varied import Measured, Shares, Slices, resampled, sliced
from palitune.examples import Example, Prediction, value_to_json
from palitune.metrics import METRICS
from palitune.metrics.base import Floats
from palitune.models.generation import Generated, generate

_COLUMNS = (
    TextColumn("{task.description}"),
    BarColumn(),
    MofNCompleteColumn(),
    TimeElapsedColumn(),
    TextColumn("left"),
    TimeRemainingColumn(),
)


@dataclass
class Results:
    """Metrics by `part/name`, how many examples each part had, and every prediction."""

    metrics: dict[str, float] = field(default_factory=dict)
    examples: dict[str, int] = field(default_factory=dict)
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
        with path.open("w", encoding="utf-8") as file:
            for prediction in self.predictions:
                file.write(json.dumps(prediction, ensure_ascii=False) + "\n")


def evaluate(
    network: Any, processor: Any, parts: list[Part], settings: Evaluation, *, title: str = ""
) -> Results:
    """Generate an answer to every example of every part and judge it by the part's own metrics.

    `title` names the progress line.
    """
    results = Results()
    collator = Collator(processor)
    with Progress(*_COLUMNS, transient=True) as progress:
        for part in parts:
            examples = _first(part, settings.limit)
            outputs = _generate(network, processor, collator, part, examples, settings)
            answered = zip(examples, outputs, strict=True)
            label = " ".join(["evaluating", part.name, title]).rstrip()
            tracked = progress.track(answered, len(examples), description=label)
            _judge(part, tracked, settings, results)
    return results


def metric_names(parts: list[Part]) -> list[str]:
    """Every `part/name` that an evaluation of these parts reports."""
    names = []
    for part in parts:
        for metric in part.task.metrics:
            names += [f"{part.name}/{name}" for name in METRICS[metric]().compute()]
        names += [f"{part.name}/{name}" for name in Shares().compute()]
    return names


def _first(part: Part, limit: int | None) -> list[Example]:
    count = len(part.examples) if limit is None else min(limit, len(part.examples))
    return [part.examples[index] for index in range(count)]


def _generate(
    network: Any,
    processor: Any,
    collator: Collator,
    part: Part,
    examples: list[Example],
    settings: Evaluation,
) -> Iterator[Generated]:
    batches: Iterable[Batch] = DataLoader(
        examples,  # type: ignore[arg-type]
        batch_size=settings.batch_size,
        collate_fn=collator.prompt,
        num_workers=settings.workers if len(examples) > settings.batch_size else 0,
    )
    for batch in batches:
        yield from generate(network, processor.tokenizer, batch, part.task.max_new_tokens)


def _judge(
    part: Part,
    answered: Iterable[tuple[Example, Generated]],
    settings: Evaluation,
    results: Results,
) -> None:
    metrics, shares = [METRICS[name]() for name in part.task.metrics], Shares()
    judged: list[tuple[Example, Prediction]] = []
    given: list[list[dict[str, float]]] = [[] for _ in metrics]
    for example, output in answered:
        value = part.task.parse(output.text, example.size, output.confidence)
        prediction = Prediction(id=example.id, text=output.text, value=value)
        shares.update(value is None, not output.finished)
        for metric, scores in zip(metrics, given, strict=True):
            scores.append(metric.update(example, prediction))
        judged.append((example, prediction))

    columns = [metric.corpus_scores() or given[i] for i, metric in enumerate(metrics)]
    for row, (example, prediction) in enumerate(judged):
        scored = {name: score for column in columns for name, score in column[row].items()}
        results.predictions.append(_record(part, example, prediction, scored))

    examples = [example for example, _ in judged]
    measured: list[Measured] = [*metrics, shares]
    results.examples[part.name] = len(examples)
    for one in measured:
        results.metrics |= {f"{part.name}/{k}": v for k, v in one.compute().items()}
    varied = resampled(measured, examples, settings.resamples)
    results.resampled |= {f"{part.name}/{k}": v for k, v in varied.items()}
    if slices := sliced(measured, examples):
        results.slices[part.name] = slices


def _record(
    part: Part, example: Example, prediction: Prediction, scores: dict[str, float]
) -> dict[str, Any]:
    return {
        "id": example.id,
        "part": part.name,
        "images": list(example.images),
        "size": list(example.size),
        "prefix": example.prefix,
        "suffixes": list(example.suffixes),
        "attributes": example.attributes,
        "text": prediction.text,
        "prediction": value_to_json(prediction.value),
        "reference": value_to_json(example.reference),
        "scores": scores,
        "malformed": prediction.value is None,
    }
