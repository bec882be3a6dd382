"""Write what a model answered about images: a line each, COCO's form, drawn images, a page."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palitune import processes
from palitune.examples import DataError, Example, Instance, value_to_json
from palitune.report.coco_results import CocoResults
from palitune.report.drawing import draw_instances, legible_size
from palitune.report.gallery import Card, Table, shares
from palitune.report.image_rows import load_row
from palitune.report.pages import thumbnail, write_page
from palitune.tasks import Question
from palitune.tasks.base import TextTask
from palitune.tasks.detection import Detection

if TYPE_CHECKING:
    from PIL.Image import Image

    from palitune.evaluation.prediction import Answered

DRAWN = "drawn"
"""Folder of the drawn images."""
MOST_LISTED = 20
"""Labels or answers that the page and the terminal count; the most frequent ones."""
_SHORT = 560
"""Most pixels of the shorter side of an image on the page."""
_JPEG_QUALITY = 92


@dataclass
class Predictions:
    """What has been written so far."""

    folder: Path
    question: Question
    shown: int
    results: CocoResults
    cards: list[Card] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    objects: Counter[str] = field(default_factory=Counter)
    """By label."""
    images: Counter[str] = field(default_factory=Counter)
    """By label, for tasks that answer with text by answer."""

    @property
    def finds_objects(self) -> bool:
        return not isinstance(self.question.task, TextTask)

    def take(self, answered: "Answered") -> dict[str, Any]:
        """Draw and count one answer; return its record."""
        value = answered.prediction.value
        instances = () if value is None or isinstance(value, str) else value
        kind = self._kind(answered)
        self.kinds[kind] += 1
        self.objects.update(instance.label for instance in instances)
        self.images.update({i.label for i in instances} if self.finds_objects else [str(value)])
        if self.finds_objects:
            self.results.add(answered.example, instances)
        self._draw(answered, instances, kind)
        return record(self.question, answered)

    def _kind(self, answered: "Answered") -> str:
        value = answered.prediction.value
        if value is None:
            return "malformed"
        if not answered.finished:
            return "cut off"
        if not value:
            return "nothing found" if self.finds_objects else "empty"
        return "with objects" if self.finds_objects else "answered"

    def _draw(self, answered: "Answered", instances: tuple[Instance, ...], kind: str) -> None:
        """Draw an image in its own size and, while there is room on the page, a card."""
        on_page = len(self.cards) < self.shown
        if not (on_page or self.finds_objects):
            return
        from palitune.data.images import open_image

        example = answered.example
        if self.finds_objects:
            image = open_image(example.images[0])
            _save(_drawn(image, instances), self.folder / DRAWN / example.id)
        if on_page:
            small = load_row(example.images, example.size, _SHORT)
            if instances:
                small = draw_instances(small, instances, size=example.size)
            self.cards.append(_card(answered, small, instances, kind))

    def write(self, facts: Iterable[tuple[str, str]]) -> Path:
        """Write what is complete only now: COCO's files, the skipped images, the page."""
        if self.finds_objects:
            self.results.write(self.folder)
        if self.unreadable:
            told = "\n".join(self.unreadable) + "\n"
            (self.folder / "skipped.txt").write_text(told, encoding="utf-8")
        total = sum(self.kinds.values())
        elsewhere = "predictions.jsonl" + (f" and {DRAWN}/" if self.finds_objects else "")
        cut = len(self.cards) < total
        return write_page(
            self.folder / "predictions.html",
            "predictions.html",
            title=f"Predictions: {self.question.task.name}",
            facts=[*facts, ("images", self.summary())],
            sections=[("found", "What was found"), ("images", "Images")],
            counted=self.table(),
            kinds=list(self.kinds),
            labels=sorted(label for label in self.objects if label),
            note=f"The first {len(self.cards)} of {total}; all: {elsewhere}." if cut else "",
            cards=self.cards,
        )

    def summary(self) -> str:
        """Count the images by what became of them."""
        told = [f"{count} {kind}" for kind, count in self.kinds.most_common()]
        if self.unreadable:
            told.append(f"{len(self.unreadable)} unreadable")
        return ", ".join(told)

    def table(self) -> Table:
        """Count labels, or answers."""
        counted = self.images.most_common(MOST_LISTED)
        lengths = shares([self.objects[name] or images for name, images in counted])
        left = len(self.images) - len(counted)
        notes = [f"and {left} more"] * (left > 0)
        if not self.finds_objects:
            answers = [(text, str(images)) for text, images in counted]
            return Table(("answer", "images"), answers, "".join(notes), lengths)
        if other := self._not_asked():
            notes.append(f"not asked for: {', '.join(other[:MOST_LISTED])}")
        labels = [(name, str(self.objects[name]), str(images)) for name, images in counted]
        return Table(("label", "objects", "images"), labels, "; ".join(notes), lengths)

    def _not_asked(self) -> list[str]:
        task = self.question.task
        asked = task.classes if isinstance(task, Detection) else []
        return [name for name in self.objects if asked and name not in asked]


def show_predictions(
    folder: Path,
    question: Question,
    answers: "Iterable[Answered | DataError]",
    *,
    facts: Iterable[tuple[str, str]] = (),
    unreadable: Iterable[str] = (),
    shown: int = 300,
) -> None:
    """Write predictions as they come, then the page, and say where it is.

    `facts` are (name, text) of what answers; `unreadable` are sentences about images that were left
    out before; `shown` is how many images the page holds. Of several processes the first writes.
    """
    from rich import print as show

    if not processes.is_first():
        for _ in answers:
            pass
        return
    by_label = isinstance(question.task, Detection)
    results = CocoResults(category=None if by_label else question.task.name)
    if isinstance(question.task, Detection):
        results.declare(question.task.classes)
    taken = Predictions(folder, question, shown, results, unreadable=list(unreadable))
    with (folder / "predictions.jsonl").open("w", encoding="utf-8") as file:
        for answered in answers:
            if isinstance(answered, DataError):
                taken.unreadable.append(str(answered))
                continue
            file.write(json.dumps(taken.take(answered), ensure_ascii=False) + "\n")
            file.flush()
    told = f"{question.task.name} ({question.because})"
    page = taken.write([*facts, ("prompt", question.prompt), ("task", told)])
    show(taken.table().for_terminal())
    show(f"images: {taken.summary()}")
    show(f"page: {page}")


def record(question: Question, answered: "Answered") -> dict[str, Any]:
    """Write one answer: objects with boxes in pixels, masks as COCO's run lengths, scores."""
    prediction, example = answered.prediction, answered.example
    images = example.images
    return {
        "id": example.id,
        **({"images": list(images)} if len(images) > 1 else {"image": images[0]}),
        "size": list(example.size),
        "prompt": example.prefix,
        "task": question.task.name,
        "text": prediction.text,
        "value": value_to_json(prediction.value),
        "confidence": round(answered.confidence, 6),
        "malformed": prediction.value is None,
        "finished": answered.finished,
    }


def _drawn(image: "Image", instances: tuple[Instance, ...]) -> "Image":
    size = image.size
    return draw_instances(image.resize(legible_size(size)), instances, size=size)


def _save(image: "Image", file: Path) -> None:
    """Save a drawn image under the name of its original: JPEG stays JPEG, the rest becomes PNG."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix.lower() in (".jpg", ".jpeg"):
        image.save(file, "JPEG", quality=_JPEG_QUALITY)
    elif file.suffix.lower() == ".png":
        image.save(file, "PNG")
    else:
        image.save(file.with_name(f"{file.name}.png"), "PNG")


def _card(answered: "Answered", image: "Image", instances: tuple[Instance, ...], kind: str) -> Card:
    example, prediction = answered.example, answered.prediction
    labels = list(dict.fromkeys(instance.label for instance in instances))
    count = f"{len(instances)} object{'s' * (len(instances) != 1)}"
    lines = [("prompt", example.prefix)]
    details: list[tuple[str, str]] = []
    if isinstance(prediction.value, str):
        lines.append(("answer", prediction.value))
    else:
        details = [("objects", _listed(instances)), ("raw text", prediction.text)]
    return Card(
        id=example.id,
        kind=kind,
        grade={"malformed": "malformed", "cut off": "partial"}.get(kind, ""),
        mark=count if kind == "with objects" else kind,
        labels=labels,
        picture=thumbnail(image, _alt(example, labels)),
        lines=lines,
        details=[(caption, text) for caption, text in details if text],
    )


def _alt(example: Example, labels: list[str]) -> str:
    return f"{example.id}: {', '.join(filter(None, labels))}".rstrip(": ")


def _listed(instances: tuple[Instance, ...]) -> str:
    return "\n".join(
        f"{i.label}  {'' if i.score is None else f'{i.score:.2f}'}  "
        f"[{', '.join(f'{side:.0f}' for side in i.box)}]".strip()
        for i in instances
    )
