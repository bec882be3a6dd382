"""The embedded data set: pages of real handwritten digits, small enough for a first run.

Made of the UCI optical digits; the folder's own notice names its authors and licence.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import ClassVar

from palitune.data.sources.base import Source
from palitune.data.sources.coco import Coco
from palitune.data.sources.jsonl import Jsonl
from palitune.examples import DataError, Row

FOLDER = Path(__file__).parents[2] / "embedded" / "handwriting"


class Annotations(Enum):
    """What the pages are annotated with."""

    ocr = "ocr"
    """The digits of a page in reading order."""
    vqa = "vqa"
    """Questions about the page."""
    detection = "detection"
    """A box around every digit."""


_FILES = {
    Annotations.ocr: "{split}_ocr.jsonl",
    Annotations.vqa: "{split}_vqa.jsonl",
    Annotations.detection: "{split}_instances.json",
}


@dataclass(kw_only=True)
class Handwriting(Source):
    """Rows out of the embedded data set, with one kind of its annotations."""

    name: ClassVar[str] = "handwriting"
    patterns: ClassVar[tuple[str, ...]] = tuple(_FILES.values())

    path: str = ""
    """Stays empty: the data comes with the package."""
    annotations: Annotations = Annotations.ocr
    """What the rows hold: ocr | vqa | detection; the task has to suit it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.path:
            raise ValueError(f"data.path: handwriting is embedded; leave out {self.path!r}")

    def location(self) -> Path:
        return FOLDER

    def search_patterns(self) -> list[str]:
        return [_FILES[self.annotations]]

    def read(self, file: Path, split: str) -> Iterator[Row | DataError]:
        reader = Coco if self.annotations is Annotations.detection else Jsonl
        return reader(path=str(FOLDER)).read(file, split)
