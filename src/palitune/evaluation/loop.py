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
from palitune.evaluation.settings import Evaluation
from palitune.examples import Example, Prediction, value_to_json
from palitune.metrics import METRICS
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
            _judge(part, progress.track(answered, len(examples), description=label), results)
    return results


def metric_names(parts: list[Part]) -> list[str]:
    """Every `part/name` that an evaluation of these parts reports."""
    names = []
    for part in parts:
        for metric in part.task.metrics:
            names += [f"{part.name}/{name}" for name in METRICS[metric]().compute()]
        names += [f"{part.name}/malformed", f"{part.name}/unfinished"]
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


def _judge(part: Part, answered: Iterable[tuple[Example, Generated]], results: Results) -> None:
    metrics = [METRICS[name]() for name in part.task.metrics]
    malformed = unfinished = count = 0
    for example, output in answered:
        value = part.task.parse(output.text, example.size, output.confidence)
        prediction = Prediction(id=example.id, text=output.text, value=value)
        scores: dict[str, float] = {}
        for metric in metrics:
            scores |= metric.update(example, prediction)
        count += 1
        malformed += value is None
        unfinished += not output.finished
        results.predictions.append(_record(part, example, prediction, scores))
    results.examples[part.name] = count
    for metric in metrics:
        results.metrics |= {f"{part.name}/{k}": v for k, v in metric.compute().items()}
    results.metrics[f"{part.name}/malformed"] = malformed / count
    results.metrics[f"{part.name}/unfinished"] = unfinished / count


def _record(
    part: Part, example: Example, prediction: Prediction, scores: dict[str, float]
) -> dict[str, Any]:
    return {
        "id": example.id,
        "part": part.name,
        "images": list(example.images),
        "size": list(example.size),
        "prefix": example.prefix,
        "text": prediction.text,
        "prediction": value_to_json(prediction.value),
        "reference": value_to_json(example.reference),
        "scores": scores,
        "malformed": prediction.value is None,
    }
