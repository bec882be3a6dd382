"""Embedded data sets: pages of handwritten and of printed digits, small enough for a first run.

The handwriting consists of the UCI optical digits; a notice in its folder names their authors and
license. The embedded model was trained on the print, which therefore shows what it forgets.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import ClassVar

from palitune.data.sources.base import DatasetSpec, Source
from palitune.data.sources.coco import Coco
from palitune.data.sources.jsonl import Jsonl
from palitune.data.sources.split_files import SPLITS
from palitune.errors import DataError
from palitune.paths import cache_root
from palitune.records import Row
from palitune.tasks import Task

EMBEDDED_FOLDER = Path(__file__).parents[2] / "embedded"
_RECEIPTS_VERSION, _LARGE_PAGES_VERSION = 1, 1
"""Increased when receipts or large pages are drawn in another way."""


class EmbeddedAnnotationKind(Enum):
    """Kind of annotations, named like the task that uses it."""

    ocr = "ocr"
    """The digits of a page in reading order."""
    vqa = "vqa"
    """Questions about the page."""
    detection = "detection"
    """A box around every digit; some pages of `train` have no boxes."""
    segmentation = "segmentation"
    """The same boxes with the ink of the digits as masks."""
    json = "json"
    """Receipts with their prices and total, drawn from the digits at first use."""
    small_objects = "small_objects"
    """Boxes of small digits on large pages, drawn from the digits at first use."""


_FILE_PATTERNS = {
    EmbeddedAnnotationKind.ocr: "{split}_ocr.jsonl",
    EmbeddedAnnotationKind.vqa: "{split}_vqa.jsonl",
    EmbeddedAnnotationKind.detection: "{split}_instances.json",
    EmbeddedAnnotationKind.segmentation: "{split}_instances.json",
    EmbeddedAnnotationKind.json: "{split}_json.jsonl",
    EmbeddedAnnotationKind.small_objects: "{split}_small_objects.json",
}


@dataclass(kw_only=True)
class EmbeddedPages(Source):
    """Rows from the embedded folder `name`, with one kind of annotations."""

    patterns: ClassVar[tuple[str, ...]] = tuple(dict.fromkeys(_FILE_PATTERNS.values()))

    path: str = ""
    """Must stay empty: the data is part of the package."""
    annotations: EmbeddedAnnotationKind | None = None
    """Kind of annotations: ocr | vqa | detection | segmentation | json | small_objects (null: the
    one named like the task, else ocr)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.path:
            raise ValueError(
                f"data.path must be empty for data={self.name}, got {self.path!r}. Leave it out."
            )

    def dataset_specs(self, task: Task | None) -> list[DatasetSpec]:
        [spec] = super().dataset_specs(task)
        kind = self.annotations or EmbeddedAnnotationKind.__members__.get(spec.task.name)
        return [replace(spec, source=replace(self, annotations=kind))]

    def resolved_path(self) -> Path:
        pages = EMBEDDED_FOLDER / self.name
        cache = cache_root() / "embedded"
        match self.annotations:
            case EmbeddedAnnotationKind.json:
                from palitune.data.images.receipts import draw_receipts

                folder = cache / f"{self.name}-receipts-{_RECEIPTS_VERSION}"
                draw_receipts(pages, folder)
            case EmbeddedAnnotationKind.small_objects:
                from palitune.data.images.large_pages import draw_large_pages

                folder = cache / f"{self.name}-large-pages-{_LARGE_PAGES_VERSION}"
                draw_large_pages(pages, folder)
            case _:
                folder = pages
        return folder

    def search_patterns(self) -> list[str]:
        return [_FILE_PATTERNS[self.annotations or EmbeddedAnnotationKind.ocr]]

    def read(self, file: Path, split: str) -> Iterator[Row | DataError]:
        folder = str(self.resolved_path())
        match self.annotations:
            case EmbeddedAnnotationKind.detection | EmbeddedAnnotationKind.small_objects:
                yield from Coco(path=folder).read(file, split)
            case EmbeddedAnnotationKind.segmentation:
                yield from Coco(path=folder, masks=True).read(file, split)
            case _:
                yield from Jsonl(path=folder).read(file, split)


def copy_as_coco(name: str, folder: Path) -> None:
    """Write an embedded data set as a folder of files in COCO layout, as an example of such."""
    source = EMBEDDED_FOLDER / name
    (folder / "annotations").mkdir(parents=True)
    shutil.copytree(source / "images", folder / "images")
    for split in SPLITS:
        file = source / f"{split}_instances.json"
        shutil.copyfile(file, folder / "annotations" / f"instances_{split}.json")


@dataclass(kw_only=True)
class Handwriting(EmbeddedPages):
    """Real handwritten digits."""

    name: ClassVar[str] = "handwriting"


@dataclass(kw_only=True)
class Print(EmbeddedPages):
    """Printed digits in the fonts that the embedded model was trained on; without masks."""

    name: ClassVar[str] = "print"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.annotations is EmbeddedAnnotationKind.segmentation:
            raise ValueError(
                "data.annotations must be ocr, vqa, detection or json for data=print, got "
                "segmentation. Set data=handwriting for masks."
            )
