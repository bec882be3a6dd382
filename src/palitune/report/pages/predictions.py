"""Write what a model answered about images: a line each, COCO's form, drawn images, a page."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palitune.distributed import collectives
from palitune.errors import DataError
from palitune.records import Example, Instance, Prediction, value_to_json
from palitune.report.coco_results import CocoResults
from palitune.report.images.drawing import draw_instances, upscaled_size
from palitune.report.images.image_grid import load_image_grid
from palitune.report.page_stack import make_thumbnail, write_page
from palitune.report.pages.gallery import GalleryCard, TextTable, relative_to_max
from palitune.tasks.base import TextTask
from palitune.tasks.detection import Detection
from palitune.tasks.infer_task import TaskPrompt

if TYPE_CHECKING:
    from PIL.Image import Image

DRAWN_FOLDER = "drawn"
"""Folder of the drawn images."""
MAX_LISTED = 20
"""Labels or answers that the page and the terminal count; the most frequent ones."""
_MAX_SHORT_SIDE = 560
"""Most pixels of the shorter side of an image on the page."""
_JPEG_QUALITY = 92


@dataclass
class PredictionWriter:
    """What has been written so far."""

    folder: Path
    task_prompt: TaskPrompt
    max_cards: int
    coco_results: CocoResults
    cards: list[GalleryCard] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    status_counts: Counter[str] = field(default_factory=Counter)
    object_counts: Counter[str] = field(default_factory=Counter)
    """By label."""
    image_counts: Counter[str] = field(default_factory=Counter)
    """By label, for tasks that answer with text by answer."""

    @property
    def predicts_objects(self) -> bool:
        return not isinstance(self.task_prompt.task, TextTask)

    def add(self, example: Example, prediction: Prediction) -> dict[str, Any]:
        """Draw and count one answer; return its record."""
        value = prediction.value
        instances = () if value is None or isinstance(value, str) else value
        kind = self._status(prediction)
        self.status_counts[kind] += 1
        self.object_counts.update(instance.label for instance in instances)
        self.image_counts.update(
            {i.label for i in instances} if self.predicts_objects else [str(value)]
        )
        if self.predicts_objects:
            self.coco_results.add(example, instances)
        self._draw_images(example, prediction, instances, kind)
        return to_record(self.task_prompt, example, prediction)

    def _status(self, prediction: Prediction) -> str:
        value = prediction.value
        if value is None:
            return "malformed"
        if not prediction.finished:
            return "cut off"
        if not value:
            return "nothing found" if self.predicts_objects else "empty"
        return "with objects" if self.predicts_objects else "answered"

    def _draw_images(
        self,
        example: Example,
        prediction: Prediction,
        instances: tuple[Instance, ...],
        status: str,
    ) -> None:
        """Draw an image in its own size and, while there is room on the page, a card."""
        on_page = len(self.cards) < self.max_cards
        if not (on_page or self.predicts_objects):
            return
        from palitune.data.images.io import open_image

        if self.predicts_objects:
            image = open_image(example.images[0])
            _save_image(_draw_upscaled(image, instances), self.folder / DRAWN_FOLDER / example.id)
        if on_page:
            small = load_image_grid(example.images, example.size, _MAX_SHORT_SIDE)
            if instances:
                small = draw_instances(small, instances, size=example.size)
            self.cards.append(_prediction_card(example, prediction, small, instances, status))

    def write_outputs(self, facts: Iterable[tuple[str, str]]) -> Path:
        """Write what is complete only now: COCO's files, the skipped images, the page."""
        if self.predicts_objects:
            self.coco_results.write(self.folder)
        if self.skipped:
            told = "\n".join(self.skipped) + "\n"
            (self.folder / "skipped.txt").write_text(told, encoding="utf-8")
        total = sum(self.status_counts.values())
        elsewhere = "predictions.jsonl" + (f" and {DRAWN_FOLDER}/" if self.predicts_objects else "")
        cut = len(self.cards) < total
        return write_page(
            self.folder / "predictions.html",
            "predictions.html",
            title=f"Predictions: {self.task_prompt.task.name}",
            facts=[*facts, ("images", self.summary())],
            sections=[("found", "What was found"), ("images", "Images")],
            counted=self.count_table(),
            kinds=list(self.status_counts),
            labels=sorted(label for label in self.object_counts if label),
            note=f"The first {len(self.cards)} of {total}; all: {elsewhere}." if cut else "",
            cards=self.cards,
        )

    def summary(self) -> str:
        """Count the images by what became of them."""
        told = [f"{count} {kind}" for kind, count in self.status_counts.most_common()]
        if self.skipped:
            told.append(f"{len(self.skipped)} unreadable")
        return ", ".join(told)

    def count_table(self) -> TextTable:
        """Count labels, or answers."""
        counted = self.image_counts.most_common(MAX_LISTED)
        lengths = relative_to_max([self.object_counts[name] or images for name, images in counted])
        left = len(self.image_counts) - len(counted)
        notes = [f"and {left} more"] * (left > 0)
        if not self.predicts_objects:
            answers = [(text, str(images)) for text, images in counted]
            return TextTable(("answer", "images"), answers, "".join(notes), lengths)
        if other := self._unrequested_labels():
            notes.append(f"not asked for: {', '.join(other[:MAX_LISTED])}")
        labels = [(name, str(self.object_counts[name]), str(images)) for name, images in counted]
        return TextTable(("label", "objects", "images"), labels, "; ".join(notes), lengths)

    def _unrequested_labels(self) -> list[str]:
        task = self.task_prompt.task
        asked = task.classes if isinstance(task, Detection) else []
        return [name for name in self.object_counts if asked and name not in asked]


def write_prediction_report(
    folder: Path,
    task_prompt: TaskPrompt,
    outputs: Iterable[tuple[Example, Prediction] | DataError],
    *,
    facts: Iterable[tuple[str, str]] = (),
    skipped: Iterable[str] = (),
    max_cards: int = 300,
) -> None:
    """Write predictions as they come, then the page, and say where it is.

    `facts` are (name, text) of what answers; `unreadable` are sentences about images that were left
    out before; `shown` is how many images the page holds. Of several processes the first writes.
    """
    from rich import print as show

    if not collectives.is_main_process():
        for _ in outputs:
            pass
        return
    by_label = isinstance(task_prompt.task, Detection)
    results = CocoResults(category=None if by_label else task_prompt.task.name)
    if isinstance(task_prompt.task, Detection):
        results.add_categories(task_prompt.task.classes)
    taken = PredictionWriter(folder, task_prompt, max_cards, results, skipped=list(skipped))
    with (folder / "predictions.jsonl").open("w", encoding="utf-8") as file:
        for answered in outputs:
            if isinstance(answered, DataError):
                taken.skipped.append(str(answered))
                continue
            file.write(json.dumps(taken.add(*answered), ensure_ascii=False) + "\n")
            file.flush()
    told = f"{task_prompt.task.name} ({task_prompt.reason})"
    page = taken.write_outputs([*facts, ("prompt", task_prompt.prompt), ("task", told)])
    show(taken.count_table().to_rich())
    show(f"images: {taken.summary()}")
    show(f"page: {page}")


def to_record(task_prompt: TaskPrompt, example: Example, prediction: Prediction) -> dict[str, Any]:
    """Write one answer: objects with boxes in pixels, masks as COCO's run lengths, scores."""
    images = example.images
    return {
        "id": example.id,
        **({"images": list(images)} if len(images) > 1 else {"image": images[0]}),
        "size": list(example.size),
        "prompt": example.prefix,
        "task": task_prompt.task.name,
        "text": prediction.text,
        "value": value_to_json(prediction.value),
        "confidence": prediction.confidence and round(prediction.confidence, 6),
        "malformed": prediction.value is None,
        "finished": prediction.finished,
    }


def _draw_upscaled(image: "Image", instances: tuple[Instance, ...]) -> "Image":
    size = image.size
    return draw_instances(image.resize(upscaled_size(size)), instances, size=size)


def _save_image(image: "Image", file: Path) -> None:
    """Save a drawn image under the name of its original: JPEG stays JPEG, the rest becomes PNG."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix.lower() in (".jpg", ".jpeg"):
        image.save(file, "JPEG", quality=_JPEG_QUALITY)
    elif file.suffix.lower() == ".png":
        image.save(file, "PNG")
    else:
        image.save(file.with_name(f"{file.name}.png"), "PNG")


def _prediction_card(
    example: Example,
    prediction: Prediction,
    image: "Image",
    instances: tuple[Instance, ...],
    status: str,
) -> GalleryCard:
    labels = list(dict.fromkeys(instance.label for instance in instances))
    count = f"{len(instances)} object{'s' * (len(instances) != 1)}"
    lines = [("prompt", example.prefix)]
    details: list[tuple[str, str]] = []
    if isinstance(prediction.value, str):
        lines.append(("answer", prediction.value))
    else:
        details = [("objects", _format_instances(instances)), ("raw text", prediction.text)]
    return GalleryCard(
        id=example.id,
        kind=status,
        grade={"malformed": "malformed", "cut off": "partial"}.get(status, ""),
        badge=count if status == "with objects" else status,
        labels=labels,
        thumbnail=make_thumbnail(image, _alt_text(example, labels)),
        texts=lines,
        details=[(caption, text) for caption, text in details if text],
    )


def _alt_text(example: Example, labels: list[str]) -> str:
    return f"{example.id}: {', '.join(filter(None, labels))}".rstrip(": ")


def _format_instances(instances: tuple[Instance, ...]) -> str:
    return "\n".join(
        f"{i.label}  {'' if i.score is None else f'{i.score:.2f}'}  "
        f"[{', '.join(f'{side:.0f}' for side in i.box)}]".strip()
        for i in instances
    )
