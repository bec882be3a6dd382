"""COCO annotation files: instances (boxes with classes) and captions.

Reads the layouts of COCO itself, CVAT, Roboflow and FiftyOne: see `Coco.patterns` and
`_usual_folders`. Segmentations are read where `masks` asks for them.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import ClassVar

from palitune.data.sources import split_files
from palitune.data.sources.base import Source
from palitune.data.sources.coco_file import CocoFile
from palitune.errors import DataError
from palitune.records import Row

_NUM_PROBED_IMAGES = 20
"""Images by which the image folder is recognised; one of them may well be missing."""


class CocoAnnotationKind(Enum):
    """Which file is taken where a folder has both."""

    instances = "instances"
    captions = "captions"


@dataclass(kw_only=True)
class Coco(Source):
    """Rows out of COCO json files: one per image, also for an image without annotations."""

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
    """Folder of the images, relative to `path` or absolute; null: found in the usual places."""
    annotations: CocoAnnotationKind = CocoAnnotationKind.instances
    """Which file to take where a folder has both: instances | captions."""
    masks: bool = False
    """Read the segmentations, too: polygons and run lengths."""

    def read(self, file: Path, split: str) -> Iterator[Row | DataError]:
        content = CocoFile.load(file, load_masks=self.masks)
        yield from content.rows(find_image_folder(content, self.images, self.folder(), split))

    def class_ids(self, split: str) -> dict[str, int | str]:
        content = CocoFile.load(self.annotation_file(split), load_masks=False)
        return {name: number for number, name in content.categories.items()}

    def search_patterns(self) -> list[str]:
        first, second = sorted(CocoAnnotationKind, key=lambda kind: kind is not self.annotations)
        preferred = [pattern.replace("{kind}", first.value) for pattern in self.patterns]
        other = [p.replace("{kind}", second.value) for p in self.patterns if "{kind}" in p]
        return preferred + other


def find_image_folder(coco: CocoFile, configured: str | None, root: Path, split: str) -> Path:
    """Return the folder that holds the first images of the file."""
    if configured is not None:
        folder = root / Path(configured).expanduser()
        if not folder.is_dir():
            raise DataError(f"data.images: folder {folder} does not exist")
        return folder
    file = coco.file
    names = [entry.get("file_name") for entry in coco.images[:_NUM_PROBED_IMAGES]]
    named = [name for name in names if isinstance(name, str) and "://" not in name]
    folders = _candidate_folders(root, file, split)
    for folder in folders:
        if any((folder / name).is_file() for name in named):
            return folder
    if not named:
        return file.parent
    looked = ", ".join(dict.fromkeys(os.path.relpath(folder, root) for folder in folders))
    raise DataError(
        f"{file}: image {named[0]!r} is in none of the folders {looked} of {root}; "
        "say where the images are with data.images=FOLDER"
    )


def _candidate_folders(root: Path, file: Path, split: str) -> list[Path]:
    """List where images lie: beside the annotations, or in a folder named for the split.

    COCO's `annotations/instances_train2017.json` goes with `train2017/`.
    """
    names = [file.stem.partition("_")[2], *split_files.split_aliases(split)]
    folders = [file.parent, file.parent / "images", file.parent / "data"]
    folders += [root, root / "images", root / "data"]
    for name in filter(None, names):
        folders += [root / name, root / "images" / name, root / name / "images"]
    return folders


__all__ = ["Coco", "CocoAnnotationKind", "find_image_folder"]
