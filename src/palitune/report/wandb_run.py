"""A run of Weights & Biases: curves, summary, tables of examples, report and adapter."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from palitune.examples import Instance, Mask
from palitune.report import selection
from palitune.report.image_rows import load_row
from palitune.report.pictures import answers
from palitune.report.run_folder import Judged, RunFolder, objects
from palitune.report.summary import numbers

_FILES = ("report.html", "metrics.json", "predictions.jsonl", "config.yaml", "environment.json")
_UNNAMED = "object"
"""The class of objects without a label."""


class WandbRun:
    def __init__(self, run: Any, *, keep_adapter: bool = True) -> None:
        self.run = run
        self.keep_adapter = keep_adapter

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        self.run.log(dict(numbers), step=step)

    def publish(self, run: RunFolder) -> None:
        import wandb

        self.run.summary.update(summary(run))
        for part, examples in selection.by_part(run.judged).items():
            self.run.log({f"examples/{part}": table(examples)})
        if run.samples:
            self.run.log({"samples": samples_table(run.samples)})
        report = wandb.Artifact(f"{self.run.id}-report", type="report")
        for name in _FILES:
            if (run.path / name).is_file():
                report.add_file(str(run.path / name))
        self.run.log_artifact(report)
        if self.keep_adapter and (run.path / "adapter").is_dir():
            adapter = wandb.Artifact(f"{self.run.id}-adapter", type="model")
            adapter.add_dir(str(run.path / "adapter"))
            self.run.log_artifact(adapter)

    def finish(self) -> None:
        self.run.finish()


def summary(run: RunFolder) -> dict[str, float]:
    """Name the numbers of a run `after/<part>/<name>`, and likewise `before`; NaN is left out."""
    named: dict[str, float] = {}
    for number in numbers(run.metrics):
        name = f"{number.part}/{number.name}" if number.part else number.name
        named[f"after/{name}"] = number.after
        if number.before is not None:
            named[f"before/{name}"] = number.before
    return {name: value for name, value in named.items() if not math.isnan(value)}


def table(examples: Sequence[Judged]) -> Any:
    """Build the `wandb.Table` of one part: the examples of its galleries, drawn by the tracker."""
    import wandb

    shown = [chosen.example for chosen in selection.choose(list(examples), most=0)]
    scores = list(dict.fromkeys(name for example in shown for name in example.after.scores))
    sides = ["before"] if any(example.before for example in shown) else []
    columns = ["id", "image", "prefix", "reference", "text", *(f"text {side}" for side in sides)]
    built = wandb.Table(columns=[*columns, "malformed", *scores])
    numbered = _numbered(shown)
    for example in shown:
        built.add_data(
            example.id,
            image(example, numbered) if example.images else None,
            example.prefix,
            "\n".join(example.suffixes or [i for i in example.reference if isinstance(i, str)]),
            example.after.text,
            *(example.before.text if example.before else None for _ in sides),
            example.after.value is None,
            *(example.after.scores.get(name) for name in scores),
        )
    return built


def samples_table(samples: Sequence[Mapping[str, Any]]) -> Any:
    """Build the `wandb.Table` of answers that were sampled on the way, one answer a line."""
    import wandb

    built = wandb.Table(columns=["step", "part", "id", "prefix", "text", "reward", "rewards"])
    for sample in samples:
        asked = [sample[name] for name in ("step", "part", "id", "prefix")]
        for answer in sample["answers"]:
            named = ", ".join(f"{name} {value:.3f}" for name, value in answer["rewards"].items())
            built.add_data(*asked, answer["text"], answer["reward"], named)
    return built


def image(example: Judged, numbered: Mapping[str, int]) -> Any:
    """Build the `wandb.Image` of an example with the boxes and masks of each side.

    `numbered`: the number of each class, from 1.
    """
    import wandb

    sides = {"reference": objects(example.reference)}
    sides |= {name: objects(answer.value) for name, answer in answers(example)}
    drawn = load_row(example.images, example.size)
    names = {number: label for label, number in numbered.items()}
    masked = {
        side: items for side, items in sides.items() if any(i.mask is not None for i in items)
    }
    return wandb.Image(
        drawn,
        boxes={
            side: {"box_data": [_box(i, example, numbered) for i in items], "class_labels": names}
            for side, items in sides.items()
            if items
        },
        masks={
            side: {"mask_data": _classes(items, drawn.size, numbered), "class_labels": names}
            for side, items in masked.items()
        },
        classes=[{"id": number, "name": name} for number, name in names.items()],
    )


def _numbered(examples: Sequence[Judged]) -> dict[str, int]:
    found = [
        item.label or _UNNAMED
        for example in examples
        for value in (example.reference, *(answer.value for _, answer in answers(example)))
        for item in objects(value)
    ]
    return {label: number for number, label in enumerate(sorted(set(found)), start=1)}


def _box(instance: Instance, example: Judged, numbered: Mapping[str, int]) -> dict[str, Any]:
    """Write a box as shares of the image's sides, which fit the image at any size."""
    x0, y0, x1, y1 = instance.box
    width, height = example.size
    label = instance.label or _UNNAMED
    drawn: dict[str, Any] = {
        "position": {
            "minX": min(max(x0 / width, 0.0), 1.0),
            "maxX": min(max(x1 / width, 0.0), 1.0),
            "minY": min(max(y0 / height, 0.0), 1.0),
            "maxY": min(max(y1 / height, 0.0), 1.0),
        },
        "class_id": numbered[label],
        "box_caption": label if instance.score is None else f"{label} {instance.score:.2f}",
    }
    return drawn if instance.score is None else drawn | {"scores": {"score": instance.score}}


def _classes(
    instances: Sequence[Instance], size: tuple[int, int], numbered: Mapping[str, int]
) -> np.ndarray[Any, np.dtype[np.uint16]]:
    """Paint masks over each other as class numbers, (height, width); 0 where there is none."""
    painted = np.zeros((size[1], size[0]), np.uint16)
    for instance in instances:
        if instance.mask is not None:
            painted[_resized(instance.mask, size)] = numbered[instance.label or _UNNAMED]
    return painted


def _resized(mask: Mask, size: tuple[int, int]) -> Mask:
    from PIL import Image

    resized: Mask = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST), bool)
    return resized
