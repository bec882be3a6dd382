"""The embedded data sets: pages of handwritten and of printed digits, small enough for a first run.

The handwriting is made of the UCI optical digits; its folder's own notice names their authors and
licence. The print is what the embedded model was trained on, so that one sees what it forgets.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import ClassVar

from palitune.data.sources.base import DatasetSpec, Source
from palitune.data.sources.coco import Coco
from palitune.data.sources.jsonl import Jsonl
from palitune.errors import DataError
from palitune.records import Row
from palitune.tasks import Task

EMBEDDED_FOLDER = Path(__file__).parents[2] / "embedded"


class EmbeddedAnnotationKind(Enum):
    """What the pages are annotated with; each has the name of a task that reads it."""

    ocr = "ocr"
    """The digits of a page in reading order."""
    vqa = "vqa"
    """Questions about the page."""
    detection = "detection"
    """A box around every digit; some pages of `train` have none."""
    segmentation = "segmentation"
    """The same boxes with the ink of the digit as its mask."""


_FILE_PATTERNS = {
    EmbeddedAnnotationKind.ocr: "{split}_ocr.jsonl",
    EmbeddedAnnotationKind.vqa: "{split}_vqa.jsonl",
    EmbeddedAnnotationKind.detection: "{split}_instances.json",
    EmbeddedAnnotationKind.segmentation: "{split}_instances.json",
}


@dataclass(kw_only=True)
class EmbeddedPages(Source):
    """Rows out of the embedded folder of its name, with one kind of its annotations."""

    patterns: ClassVar[tuple[str, ...]] = tuple(dict.fromkeys(_FILE_PATTERNS.values()))

    path: str = ""
    """Stays empty: the data comes with the package."""
    annotations: EmbeddedAnnotationKind | None = None
    """What the rows hold: ocr | vqa | detection | segmentation; null: what the task reads, ocr
    where none has its name."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.path:
            raise ValueError(f"data.path: {self.name} is embedded; leave out {self.path!r}")

    def dataset_specs(self, task: Task | None) -> list[DatasetSpec]:
        [pairing] = super().dataset_specs(task)
        chosen = self.annotations or EmbeddedAnnotationKind.__members__.get(pairing.task.name)
        return [replace(pairing, source=replace(self, annotations=chosen))]

    def resolved_path(self) -> Path:
        return EMBEDDED_FOLDER / self.name

    def search_patterns(self) -> list[str]:
        return [_FILE_PATTERNS[self.annotations or EmbeddedAnnotationKind.ocr]]

    def read(self, file: Path, split: str) -> Iterator[Row | DataError]:
        folder = str(self.resolved_path())
        match self.annotations:
            case EmbeddedAnnotationKind.detection:
                yield from Coco(path=folder).read(file, split)
            case EmbeddedAnnotationKind.segmentation:
                yield from Coco(path=folder, masks=True).read(file, split)
            case _:
                yield from Jsonl(path=folder).read(file, split)


@dataclass(kw_only=True)
class Handwriting(EmbeddedPages):
    """Real handwritten digits."""

    name: ClassVar[str] = "handwriting"


@dataclass(kw_only=True)
class Print(EmbeddedPages):
    """Printed digits, in the fonts that the embedded model has learned; without masks."""

    name: ClassVar[str] = "print"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.annotations is EmbeddedAnnotationKind.segmentation:
            raise ValueError("data.annotations: the pages of data=print have no masks")
