"""Pre-annotations of a run in all chosen formats."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from palitune.records import Example, Prediction, Value
from palitune.report.annotations.coco import write_coco
from palitune.report.annotations.config import AnnotationFormat
from palitune.report.annotations.label_studio import write_label_studio
from palitune.report.annotations.voc import write_voc
from palitune.report.annotations.yolo import write_yolo
from palitune.tasks import Task
from palitune.tasks.detection import Detection

FOLDER = "annotations"
"""Folder of the pre-annotations in the run folder, with a folder for each format."""


_WRITERS = {
    AnnotationFormat.coco: write_coco,
    AnnotationFormat.yolo: write_yolo,
    AnnotationFormat.label_studio: write_label_studio,
    AnnotationFormat.voc: write_voc,
}


@dataclass
class PreAnnotations:
    """Collected predictions, written in every chosen format."""

    formats: Sequence[AnnotationFormat]
    model: str
    """Name of the model, which Label Studio shows as the version of a prediction."""
    task: Task
    predictions: list[tuple[Example, Value]] = field(default_factory=list)

    def add(self, example: Example, prediction: Prediction) -> None:
        """Add an answer; a malformed one is empty. An object without label gets the task's name."""
        value = () if prediction.value is None else prediction.value
        if not isinstance(value, str):
            value = tuple(replace(item, label=item.label or self.task.name) for item in value)
        if self.formats:
            self.predictions.append((example, value))

    def write(self, folder: Path) -> list[Path]:
        """Write the formats into the run folder; return their folders."""
        known = self.task.classes if isinstance(self.task, Detection) else []
        labels = [i.label for _, v in self.predictions if not isinstance(v, str) for i in v]
        classes = list(dict.fromkeys([*known, *labels]))
        written = []
        for chosen in self.formats:
            target = folder / FOLDER / chosen.value
            target.mkdir(parents=True, exist_ok=True)
            _WRITERS[chosen](target, self.predictions, classes, self.model)
            written.append(target)
        return written
