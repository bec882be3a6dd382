"""Write predictions on new images: JSON lines, COCO results, drawn images and a page."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palitune.codec.parsing import format_json
from palitune.distributed import collectives
from palitune.distributed.terminal import print_line
from palitune.errors import DataError
from palitune.records import Example, Instance, Prediction, value_to_json
from palitune.report.annotations.config import AnnotationFormat
from palitune.report.annotations.formats import PreAnnotations
from palitune.report.coco_results import CocoResults
from palitune.report.images.drawing import draw_instances, upscaled_size
from palitune.report.images.example_images import encode_objects
from palitune.report.pages.cards import ExampleCard, format_instances, plain_text
from palitune.report.predictions_csv import FieldTable, format_confidences
from palitune.report.rendering import write_page
from palitune.report.tables import TextTable, relative_to_max
from palitune.tasks.base import TextTask
from palitune.tasks.detection import Detection
from palitune.tasks.infer_task import TaskPrompt

if TYPE_CHECKING:
    from PIL.Image import Image

DRAWN_FOLDER = "drawn"
"""Folder of the drawn images."""
MAX_LISTED = 20
"""Maximum number of labels or answers in the table, the most frequent ones."""
_JPEG_QUALITY = 92
_DEFINITIONS = {
    "objects": "Number of predicted objects with the label, over all images.",
    "images": "Number of images with at least one such prediction.",
}
"""Definitions of the columns of the summary."""


@dataclass
class PredictionWriter:
    """Cards, counts and COCO results of the predictions so far."""

    folder: Path
    task_prompt: TaskPrompt
    max_cards: int
    coco_results: CocoResults
    annotations: PreAnnotations
    cards: list[ExampleCard] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    status_counts: Counter[str] = field(default_factory=Counter)
    object_counts: Counter[str] = field(default_factory=Counter)
    """Objects by label."""
    field_table: FieldTable = field(default_factory=FieldTable)
    """Fields of documents."""
    image_counts: Counter[str] = field(default_factory=Counter)
    """Images by label; for text tasks, by answer."""

    @property
    def predicts_objects(self) -> bool:
        return not isinstance(self.task_prompt.task, TextTask)

    def add(self, example: Example, prediction: Prediction) -> dict[str, Any]:
        """Draw and count one answer; return its record."""
        value = prediction.value
        instances = predicted_instances(prediction)
        status = answer_status(prediction, self.predicts_objects)
        self.status_counts[status] += 1
        self.object_counts.update(instance.label for instance in instances)
        self.image_counts.update(
            {i.label for i in instances} if self.predicts_objects else [str(value)]
        )
        if self.predicts_objects:
            self.coco_results.add(example, instances)
        self.field_table.add(
            example.id, example.images, value, prediction.field_confidences, prediction.repairs
        )
        self.annotations.add(example, prediction)
        self._draw_images(example, prediction, instances, status)
        return to_record(self.task_prompt, example, prediction)

    def _draw_images(
        self,
        example: Example,
        prediction: Prediction,
        instances: tuple[Instance, ...],
        status: str,
    ) -> None:
        """Draw an image in its original size and, up to `max_cards`, a card."""
        on_page = len(self.cards) < self.max_cards
        if not (on_page or self.predicts_objects):
            return
        from palitune.data.images.io import open_image

        if self.predicts_objects:
            image = open_image(example.images[0])
            _save_image(_draw_upscaled(image, instances), self.folder / DRAWN_FOLDER / example.id)
        if on_page:
            card = prediction_card(example, prediction, instances, status, self.folder)
            self.cards.append(card)

    def write_outputs(self, facts: Iterable[tuple[str, str]]) -> Path:
        """Write COCO results, skipped images and the page, after all predictions.

        `facts`: (name, text) for the header of the page, whose path is returned.
        """
        if self.predicts_objects:
            self.coco_results.write(self.folder)
        self.field_table.write(self.folder)
        for written in self.annotations.write(self.folder):
            print_line(f"pre-annotations: {written}")
        if self.skipped:
            text = "\n".join(self.skipped) + "\n"
            (self.folder / "skipped.txt").write_text(text, encoding="utf-8")
        total, count = sum(self.status_counts.values()), len(self.cards)
        files = "predictions.jsonl" + (f" and {DRAWN_FOLDER}/" if self.predicts_objects else "")
        content = {
            "title": f"Predictions: {self.task_prompt.task.name}",
            "facts": [*facts, ("images", self.summary())],
            "sections": [("summary", "Summary"), ("images", "Images")],
            "summary": self.count_table(),
            "note": f"Showing {count:,} of {total:,} images; all are in {files}."
            if count < total
            else "",
            "cards": self.cards,
            "definitions": _DEFINITIONS,
        }
        return write_page(
            self.folder / "predictions.html", "predictions.html", content, script="page.js"
        )

    def summary(self) -> str:
        """Return the number of images by status."""
        counts = [f"{count} {status}" for status, count in self.status_counts.most_common()]
        if self.skipped:
            counts.append(f"{len(self.skipped)} unreadable")
        return ", ".join(counts)

    def count_table(self) -> TextTable:
        """Return the counts of labels or answers."""
        most_common = self.image_counts.most_common(MAX_LISTED)
        lengths = relative_to_max([self.object_counts[name] or n for name, n in most_common])
        more = len(self.image_counts) - len(most_common)
        notes = [f"and {more} more"] * (more > 0)
        if not self.predicts_objects:
            rows = [(text, str(images)) for text, images in most_common]
            return TextTable(("answer", "images"), rows, "".join(notes), "", lengths)
        if other := self._unrequested_labels():
            notes.append(f"not in the prompt: {', '.join(other[:MAX_LISTED])}")
        labels = [(name, str(self.object_counts[name]), str(n)) for name, n in most_common]
        return TextTable(("label", "objects", "images"), labels, "; ".join(notes), "", lengths)

    def _unrequested_labels(self) -> list[str]:
        task = self.task_prompt.task
        classes = task.classes if isinstance(task, Detection) else []
        return [name for name in self.object_counts if classes and name not in classes]


def write_prediction_report(
    folder: Path,
    task_prompt: TaskPrompt,
    outputs: Iterable[tuple[Example, Prediction] | DataError],
    *,
    facts: Iterable[tuple[str, str]] = (),
    skipped: Iterable[str] = (),
    max_cards: int = 300,
    save: Sequence[AnnotationFormat] = (),
    keep: bool = False,
) -> list[tuple[Example, Prediction]]:
    """Write predictions one by one, then the page, and print a summary.

    Only the main process writes.

    Args:
        folder: Run folder.
        task_prompt: Prompt and task of the predictions.
        outputs: Predictions, or errors about unreadable images.
        facts: (name, text) about the model for the header of the page.
        skipped: Sentences about images that were skipped before.
        max_cards: Maximum number of images on the page.
        save: Formats of pre-annotations to write.
        keep: Return the predictions.

    Returns:
        Examples with their predictions if `keep` is set, else nothing.
    """
    from rich import print as print_rich

    if not collectives.is_main_process():
        for _ in outputs:
            pass
        return []
    kept = []
    by_label = isinstance(task_prompt.task, Detection)
    results = CocoResults(category=None if by_label else task_prompt.task.name)
    if isinstance(task_prompt.task, Detection):
        results.add_categories(task_prompt.task.classes)
    facts = list(facts)
    annotations = PreAnnotations(save, ", ".join(text for _, text in facts), task_prompt.task)
    writer = PredictionWriter(
        folder, task_prompt, max_cards, results, annotations, skipped=list(skipped)
    )
    with (folder / "predictions.jsonl").open("w", encoding="utf-8") as file:
        for output in outputs:
            if isinstance(output, DataError):
                writer.skipped.append(str(output))
                continue
            kept += [output] * keep
            file.write(format_json(writer.add(*output)) + "\n")
            file.flush()
    task = f"{task_prompt.task.name} ({task_prompt.reason})"
    page = writer.write_outputs([*facts, ("prompt", task_prompt.prompt), ("task", task)])
    print_rich(writer.count_table().to_rich())
    print_line(f"images: {writer.summary()}")
    print_line(f"page: {page}")
    return kept


def to_record(task_prompt: TaskPrompt, example: Example, prediction: Prediction) -> dict[str, Any]:
    """Return a prediction as JSON: boxes in pixels, masks as COCO run-length encoding, scores."""
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
        **({"repairs": list(prediction.repairs)} if prediction.repairs else {}),
        **(
            {"field_confidences": prediction.field_confidences}
            if prediction.field_confidences
            else {}
        ),
    }


def _draw_upscaled(image: "Image", instances: tuple[Instance, ...]) -> "Image":
    size = image.size
    return draw_instances(image.resize(upscaled_size(size)), instances, size=size)


def _save_image(image: "Image", file: Path) -> None:
    """Save a drawn image under the name of the original, as JPEG or PNG."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix.lower() in (".jpg", ".jpeg"):
        image.save(file, "JPEG", quality=_JPEG_QUALITY)
    elif file.suffix.lower() == ".png":
        image.save(file, "PNG")
    else:
        image.save(file.with_name(f"{file.name}.png"), "PNG")


def predicted_instances(prediction: Prediction) -> tuple[Instance, ...]:
    """Return the objects of a prediction; a malformed one or a text has none."""
    value = prediction.value
    return () if value is None or isinstance(value, str) else value


def answer_status(prediction: Prediction, predicts_objects: bool) -> str:
    """Return the status by which the page filters predictions."""
    value = prediction.value
    if value is None:
        return "malformed"
    if not prediction.finished:
        return "cut off"
    if not value:
        return "nothing found" if predicts_objects else "empty"
    return "with objects" if predicts_objects else "answered"


def prediction_card(
    example: Example,
    prediction: Prediction,
    instances: tuple[Instance, ...],
    status: str,
    folder: Path,
) -> ExampleCard:
    """Return the card of a prediction.

    Args:
        example: The prompt with its image.
        prediction: The prediction.
        instances: Its objects.
        status: Its status, from `answer_status`.
        folder: Folder of the page.
    """
    labels = tuple(dict.fromkeys(instance.label for instance in instances))
    count = f"{len(instances)} object{'s' * (len(instances) != 1)}"
    is_text = isinstance(prediction.value, str)
    details = [("Objects", format_instances(instances)), ("Generated text", prediction.text)]
    if is_text:
        details = [
            ("Repaired", "; ".join(prediction.repairs)),
            ("Confidence of fields", format_confidences(prediction.field_confidences)),
        ]
    alt = f"{example.id}: {', '.join(filter(None, labels))}".rstrip(": ")
    return ExampleCard(
        id=example.id,
        part=status,
        grade={"malformed": "malformed", "cut off": "partial"}.get(status, ""),
        badge=count if status == "with objects" else status,
        labels=labels,
        file_name=Path(example.images[0]).name,
        images=(encode_objects(example, instances, alt, folder),),
        prefix=example.prefix,
        texts=(plain_text("answer", str(prediction.value)),) if is_text else (),
        details=tuple(entry for entry in details if entry[1]),
    )
