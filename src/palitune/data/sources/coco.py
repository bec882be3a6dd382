"""COCO annotation files: instances (boxes with classes) and captions.

Supports the folder layouts of COCO, CVAT, Roboflow and FiftyOne: see `Coco.patterns` and
`_candidate_folders`.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import ClassVar

from palitune.data.sources.base import Source
from palitune.data.sources.coco_file import CocoFile
from palitune.data.sources.split_files import split_aliases
from palitune.errors import DataError
from palitune.records import Row
from palitune.tasks import Task
from palitune.tasks.caption import Caption

_NUM_PROBED_IMAGES = 20
"""Images that identify the image folder; several, since single images may be missing."""


class CocoAnnotationKind(Enum):
    """Kind of the annotation file, for folders that have both."""

    instances = "instances"
    captions = "captions"


@dataclass(kw_only=True)
class Coco(Source):
    """Rows from COCO JSON files: one per image, including images without annotations."""

    name: ClassVar[str] = "coco"
    patterns: ClassVar[tuple[str, ...]] = (
        "annotations/{kind}_{split}*.json",
        "{kind}_{split}*.json",
        "{split}/{kind}*.json",
        "{split}.json",
        "annotations/{split}.json",
        "{split}/_annotations.coco.json",
        "{split}/annotations.json",
        "{split}/labels.json",
        "{split}/{split}.json",
    )

    images: str | None = None
    """Folder of the images, relative to `path` or absolute (null: search the usual folders)."""
    annotations: CocoAnnotationKind = CocoAnnotationKind.instances
    """Annotation file to use if a folder has both: instances | captions."""
    masks: bool = False
    """Read segmentations: polygons and run lengths."""

    def read(self, file: Path, split: str) -> Iterator[Row | DataError]:
        content = CocoFile.load(file, load_masks=self.masks, clip_boxes=self.clip_boxes)
        yield from content.rows(find_image_folder(content, self.images, self.folder(), split))

    def for_task(self, task: Task) -> Source:
        if isinstance(task, Caption):
            return replace(self, annotations=CocoAnnotationKind.captions)
        return super().for_task(task)

    def class_ids(self, split: str) -> dict[str, int | str]:
        content = CocoFile.load(self.annotation_file(split), load_masks=False)
        return {name: number for number, name in content.categories.items()}

    def search_patterns(self) -> list[str]:
        first, second = sorted(CocoAnnotationKind, key=lambda kind: kind is not self.annotations)
        preferred = [pattern.replace("{kind}", first.value) for pattern in self.patterns]
        other = [p.replace("{kind}", second.value) for p in self.patterns if "{kind}" in p]
        return preferred + other


def find_image_folder(coco: CocoFile, configured: str | None, root: Path, split: str) -> Path:
    """Return the folder that contains the first images of the file.

    Args:
        coco: The annotation file.
        configured: The setting `images`; None to search.
        root: Folder of the data.
        split: Name of the split, for folders named like it.

    Raises:
        DataError: No folder contains any of the first images.
    """
    if configured is not None:
        folder = root / Path(configured).expanduser()
        if not folder.is_dir():
            raise DataError(f"data.images must be a folder, got {folder}. Correct the path.")
        return folder
    file = coco.file
    entries = [entry.get("file_name") for entry in coco.images[:_NUM_PROBED_IMAGES]]
    names = [name for name in entries if isinstance(name, str) and "://" not in name]
    folders = _candidate_folders(root, file, split)
    for folder in folders:
        if any(os.path.isfile(folder / name) for name in names):
            return folder
    if not names:
        return file.parent
    searched = ", ".join(dict.fromkeys(os.path.relpath(folder, root) for folder in folders))
    raise DataError(
        f"{file}: image {names[0]!r} must be in one of the folders {searched} of {root}, got none. "
        "Set data.images=FOLDER."
    )


def _candidate_folders(root: Path, file: Path, split: str) -> list[Path]:
    """Return the possible image folders: next to the annotations, or named like the split.

    The images of COCO's `annotations/instances_train2017.json` are in `train2017/`.
    """
    names = [file.stem.partition("_")[2], *split_aliases(split)]
    folders = [file.parent, file.parent / "images", file.parent / "data"]
    folders += [root, root / "images", root / "data"]
    for name in filter(None, names):
        folders += [root / name, root / "images" / name, root / name / "images"]
    return folders
