"""Weights & Biases run: training curves, summary, tables of examples, report and adapter."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from palitune.records import Instance, Mask
from palitune.report.images.example_images import captioned_predictions
from palitune.report.images.image_grid import load_image_grid
from palitune.report.metrics_table import metric_values
from palitune.report.pages import example_selection
from palitune.report.run_reader import EvaluatedExample, RunFolder, get_instances

_REPORT_FILES = (
    "report.html",
    "metrics.json",
    "predictions.jsonl",
    "config.yaml",
    "environment.json",
)
_UNLABELED = "object"
"""Class name of objects without a label."""


class WandbTracker:
    def __init__(self, run: Any, *, log_model: bool = True) -> None:
        self.run = run
        self.log_model = log_model

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        self.run.log(dict(metrics), step=step)

    def publish(self, run: RunFolder) -> None:
        import wandb

        self.run.summary.update(final_metrics(run))
        for part, examples in example_selection.by_part(run.examples).items():
            self.run.log({f"examples/{part}": examples_table(examples)})
        if run.samples:
            self.run.log({"samples": samples_table(run.samples)})
        report = wandb.Artifact(f"{self.run.id}-report", type="report")
        for name in _REPORT_FILES:
            if (run.path / name).is_file():
                report.add_file(str(run.path / name))
        self.run.log_artifact(report)
        if self.log_model and (run.path / "adapter").is_dir():
            adapter = wandb.Artifact(f"{self.run.id}-adapter", type="model")
            adapter.add_dir(str(run.path / "adapter"))
            self.run.log_artifact(adapter)

    def finish(self) -> None:
        self.run.finish()


def final_metrics(run: RunFolder) -> dict[str, float]:
    """Return the metrics of a run as `after/<part>/<name>` and `before/…`, without NaN."""
    values: dict[str, float] = {}
    for metric in metric_values(run.metrics):
        name = f"{metric.part}/{metric.name}" if metric.part else metric.name
        values[f"after/{name}"] = metric.after
        if metric.before is not None:
            values[f"before/{name}"] = metric.before
    return {name: value for name, value in values.items() if not math.isnan(value)}


def examples_table(examples: Sequence[EvaluatedExample]) -> Any:
    """Build the `wandb.Table` of one part: the examples of the galleries, with boxes and masks."""
    import wandb

    selection = example_selection.select_examples(list(examples), max_examples=0)
    selected = [entry.example for entry in selection]
    scores = list(dict.fromkeys(name for example in selected for name in example.after.scores))
    sides = ["before"] if any(example.before for example in selected) else []
    columns = ["id", "image", "prefix", "reference", "text", *(f"text {side}" for side in sides)]
    table = wandb.Table(columns=[*columns, "malformed", *scores])
    class_ids = _class_ids(selected)
    for example in selected:
        table.add_data(
            example.id,
            wandb_image(example, class_ids) if example.images else None,
            example.prefix,
            "\n".join(example.suffixes or [i for i in example.reference if isinstance(i, str)]),
            example.after.text,
            *(example.before.text if example.before else None for _ in sides),
            example.after.value is None,
            *(example.after.scores.get(name) for name in scores),
        )
    return table


def samples_table(samples: Sequence[Mapping[str, Any]]) -> Any:
    """Build the `wandb.Table` of completions sampled during alignment, one per row."""
    import wandb

    table = wandb.Table(columns=["step", "part", "id", "prefix", "text", "reward", "rewards"])
    for sample in samples:
        prompt = [sample[name] for name in ("step", "part", "id", "prefix")]
        for answer in sample["answers"]:
            rewards = ", ".join(f"{name} {value:.3f}" for name, value in answer["rewards"].items())
            table.add_data(*prompt, answer["text"], answer["reward"], rewards)
    return table


def wandb_image(example: EvaluatedExample, class_ids: Mapping[str, int]) -> Any:
    """Build the `wandb.Image` of an example with the boxes and masks of reference and predictions.

    `class_ids`: id of each class, from 1.
    """
    import wandb

    sides = {"reference": get_instances(example.reference)}
    sides |= {name: get_instances(answer.value) for name, answer in captioned_predictions(example)}
    image = load_image_grid(example.images, example.size)
    names = {number: label for label, number in class_ids.items()}
    masked = {
        side: items for side, items in sides.items() if any(i.mask is not None for i in items)
    }
    return wandb.Image(
        image,
        boxes={
            side: {
                "box_data": [_box_data(i, example, class_ids) for i in items],
                "class_labels": names,
            }
            for side, items in sides.items()
            if items
        },
        masks={
            side: {"mask_data": _mask_data(items, image.size, class_ids), "class_labels": names}
            for side, items in masked.items()
        },
        classes=[{"id": number, "name": name} for number, name in names.items()],
    )


def _class_ids(examples: Sequence[EvaluatedExample]) -> dict[str, int]:
    labels = [
        item.label or _UNLABELED
        for example in examples
        for value in (
            example.reference,
            *(answer.value for _, answer in captioned_predictions(example)),
        )
        for item in get_instances(value)
    ]
    return {label: number for number, label in enumerate(sorted(set(labels)), start=1)}


def _box_data(
    instance: Instance, example: EvaluatedExample, class_ids: Mapping[str, int]
) -> dict[str, Any]:
    """Return a box relative to the image size, in the format of wandb."""
    x0, y0, x1, y1 = instance.box
    width, height = example.size
    label = instance.label or _UNLABELED
    data: dict[str, Any] = {
        "position": {
            "minX": min(max(x0 / width, 0.0), 1.0),
            "maxX": min(max(x1 / width, 0.0), 1.0),
            "minY": min(max(y0 / height, 0.0), 1.0),
            "maxY": min(max(y1 / height, 0.0), 1.0),
        },
        "class_id": class_ids[label],
        "box_caption": label if instance.score is None else f"{label} {instance.score:.2f}",
    }
    return data if instance.score is None else data | {"scores": {"score": instance.score}}


def _mask_data(
    instances: Sequence[Instance], size: tuple[int, int], class_ids: Mapping[str, int]
) -> np.ndarray[Any, np.dtype[np.uint16]]:
    """Return the class ids of the masks, (height, width); later ones lie on top, 0 is none."""
    painted = np.zeros((size[1], size[0]), np.uint16)
    for instance in instances:
        if instance.mask is not None:
            painted[_resize_mask(instance.mask, size)] = class_ids[instance.label or _UNLABELED]
    return painted


def _resize_mask(mask: Mask, size: tuple[int, int]) -> Mask:
    from PIL import Image

    resized: Mask = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST), bool)
    return resized
