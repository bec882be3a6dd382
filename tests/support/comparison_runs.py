"""Generated run folders for comparisons, with metrics computed from their predictions."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from palitune.evaluation.bootstrap import bootstrap_counts, confidence_interval
from palitune.metrics import METRICS
from palitune.records import Example, Prediction

REFERENCES = ("73", "4", "918", "22", "6", "50", "811", "9", "37", "64", "105", "8")
CONFIG = """\
# @package _global_
# A run of {recipe}, written to {folder}
defaults:
- override /data: jsonl
- override /model: tiny
- override /adapter: lora
data: {{path: {data}, max_samples: null}}
task: {{metrics: [{metrics}]}}
adapter: {{rank: {rank}, path: {adapter}}}
training: {{learning_rate: 0.001, num_workers: {workers}}}
evaluation: {{split: test, max_samples: {limit}}}
"""


def write_run(
    folder: Path,
    answers: Sequence[str | None],
    *,
    metrics: Sequence[str] = ("exact_match", "character_error_rate"),
    part: str = "ocr",
    split: str = "test",
    recipe: str = "finetune",
    rank: int = 8,
    adapter: str = "null",
    data: str = "digits",
    limit: str = "null",
    torch: str = "2.13.0",
    prefix: str = "ocr",
    shift: int = 0,
    reverse_order: bool = False,
) -> Path:
    """Write a run folder with one example and one image per answer.

    Args:
        folder: The folder.
        answers: Predicted answers; None: malformed.
        metrics: Metrics to compute.
        part: Name of the part.
        split: Name of the split.
        recipe: Recipe of the run.
        rank: Rank of the adapter.
        adapter: Path of a loaded adapter, as YAML.
        data: Path of the data.
        limit: `evaluation.max_samples`, as YAML.
        torch: Version of torch.
        prefix: Prompt of all examples.
        shift: Number of the first example.
        reverse_order: Whether `predictions.jsonl` is in reverse order.
    """
    computed = [METRICS[name]() for name in metrics]
    records: list[dict[str, Any]] = []
    for number, answer in enumerate(answers, start=shift):
        name, reference = f"page-{number}", REFERENCES[number % len(REFERENCES)]
        example = Example(
            id=name, images=(f"{name}.png",), size=(112, 112), prefix=prefix, suffixes=(),
            reference=(reference,), location=name,
        )  # fmt: skip
        prediction = Prediction(id=name, text=answer or "<loc>", value=answer)
        scores = {
            k: v for metric in computed for k, v in metric.update(example, prediction).items()
        }
        records.append(
            {
                "id": name, "part": part, "images": list(example.images), "size": [112, 112],
                "prefix": prefix, "attributes": {}, "text": prediction.text, "prediction": answer,
                "reference": [reference], "scores": scores, "malformed": answer is None,
            }
        )  # fmt: skip
    values = {name: value for metric in computed for name, value in metric.compute().items()}
    values["malformed"] = sum(answer is None for answer in answers) / len(answers)
    blocks = [
        metric.compute_weighted(counts)
        for metric in computed
        for counts in bootstrap_counts(range(len(answers)))
    ]
    intervals = {
        name: confidence_interval(np.asarray(resampled))
        for block in blocks
        for name, resampled in block.items()
    }
    folder.mkdir(parents=True)
    lines = [json.dumps(record) + "\n" for record in (records[::-1] if reverse_order else records)]
    (folder / "predictions.jsonl").write_text("".join(lines))
    (folder / "metrics.json").write_text(
        json.dumps(
            {
                "split": split,
                "examples": {part: len(answers)},
                "before": None,
                "after": {f"{part}/{name}": value for name, value in values.items()},
                "intervals": {
                    "after": {f"{part}/{name}": ends for name, ends in intervals.items()}
                },
            }
        )
    )
    (folder / "config.yaml").write_text(
        CONFIG.format(
            recipe=recipe, folder=folder, data=data, metrics=", ".join(metrics), rank=rank,
            adapter=adapter, workers=rank % 3, limit=limit,
        )
    )  # fmt: skip
    versions = {
        "python": "3.11.2",
        "torch": torch,
        "transformers": "5.23.0",
        "device": f"CPU {rank}",
    }
    (folder / "environment.json").write_text(json.dumps(versions))
    return folder


WEAK_ANSWERS: tuple[str | None, ...] = (
    *("73", "7", None, "2", "5", "50"),
    *("11", "9", "3", "6", "10", "0"),
)
STRONG_ANSWERS: tuple[str | None, ...] = (
    *("73", "4", "918", "22", "6", "50"),
    *("81", "9", "37", "64", "10", "0"),
)
