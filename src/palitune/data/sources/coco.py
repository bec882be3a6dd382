"""COCO annotation files: instances (boxes with classes) and captions.

Reads the layouts of COCO itself, CVAT, Roboflow and FiftyOne: see `Coco.patterns` and
`_image_folders`. Segmentations are left unread.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar

from palitune.data.sources import lookup
from palitune.data.sources.base import Source
from palitune.data.sources.checks import (
    checked_box,
    four_numbers,
    header_reader,
    image_path,
    shown,
)
from palitune.examples import DataError, Instance, Row, Size

FORM = "[x, y, width, height] in pixels"

_PROBED = 20
"""Images by which the image folder is recognised; one of them may well be missing."""


class Annotations(Enum):
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
    annotations: Annotations = Annotations.instances
    """Which file to take where a folder has both: instances | captions."""

    def read(self, file: Path, split: str) -> Iterator[Row | DataError]:
        content = _load(file)
        yield from _Reader(file, content, self._image_folder(file, content, split)).rows()

    def search_patterns(self) -> list[str]:
        first, second = sorted(Annotations, key=lambda kind: kind is not self.annotations)
        preferred = [pattern.replace("{kind}", first.value) for pattern in self.patterns]
        other = [p.replace("{kind}", second.value) for p in self.patterns if "{kind}" in p]
        return preferred + other

    def _image_folder(self, file: Path, content: dict[str, Any], split: str) -> Path:
        """Return the folder that holds the first images of the file."""
        if self.images is not None:
            folder = self.folder() / Path(self.images).expanduser()
            if not folder.is_dir():
                raise DataError(f"data.images: folder {folder} does not exist")
            return folder
        names = [entry.get("file_name") for entry in content["images"][:_PROBED]]
        named = [name for name in names if isinstance(name, str) and "://" not in name]
        folders = _usual_folders(self.folder(), file, split)
        for folder in folders:
            if any((folder / name).is_file() for name in named):
                return folder
        if not named:
            return file.parent
        looked = ", ".join(dict.fromkeys(os.path.relpath(f, self.folder()) for f in folders))
        raise DataError(
            f"{file}: image {named[0]!r} is in none of the folders {looked} of {self.folder()}; "
            "say where the images are with data.images=FOLDER"
        )


def _usual_folders(root: Path, file: Path, split: str) -> list[Path]:
    """List where images lie: beside the annotations, or in a folder named for the split.

    COCO's `annotations/instances_train2017.json` goes with `train2017/`.
    """
    names = [file.stem.partition("_")[2], *lookup.spellings(split)]
    folders = [file.parent, file.parent / "images", file.parent / "data"]
    folders += [root, root / "images", root / "data"]
    for name in filter(None, names):
        folders += [root / name, root / "images" / name, root / name / "images"]
    return folders


class _Reader:
    """Read one parsed file whose images lie in `folder`."""

    def __init__(self, file: Path, content: dict[str, Any], folder: Path) -> None:
        self.file = file
        self.folder = os.path.abspath(folder)
        self.header = header_reader()
        self.images = content["images"]
        self.annotations = content["annotations"]
        self.categories = _categories(file, content.get("categories", []))
        self.has_captions = any("caption" in annotation for annotation in self.annotations)
        self.has_boxes = bool(self.categories)

    def rows(self) -> Iterator[Row | DataError]:
        """Yield what belongs to no image, then the images in file order."""
        self.by_image: dict[Any, list[dict[str, Any]]] = {
            key: [] for entry in self.images if isinstance(key := entry.get("id"), int | str)
        }
        for annotation in self.annotations:
            image = annotation.get("image_id")
            if isinstance(image, int | str) and image in self.by_image:
                self.by_image[image].append(annotation)
            else:
                yield DataError(
                    f"{self._place(annotation)}: image_id {shown(image)} is none of the file's "
                    "images; drop the annotation or add its image"
                )
        for entry in self.images:
            try:
                yield self._row(entry)
            except DataError as mistake:
                yield mistake

    def _row(self, entry: dict[str, Any]) -> Row:
        key, name = entry.get("id"), entry.get("file_name")
        place = f"{self.file}, image id {key}"
        if not isinstance(key, int | str) or not isinstance(name, str) or not name:
            raise DataError(
                f"{self.file}: image {shown(entry)} must have an id and a file_name; add them"
            )
        path = image_path(self.folder, name, place)
        size = self._size(entry, path, place)
        annotations = self.by_image[key]
        return Row(
            id=str(key),
            images=(path,),
            size=size,
            place=place,
            captions=self._captions(annotations) if self.has_captions else None,
            instances=self._instances(annotations, size) if self.has_boxes else None,
            classes=tuple(dict.fromkeys(self.categories.values())) if self.has_boxes else None,
        )

    def _size(self, entry: dict[str, Any], path: str, place: str) -> Size:
        """Return the image's own size, where the file says the same or nothing."""
        try:
            header = self.header(path)
        except DataError as mistake:
            raise DataError(f"{place}: {mistake}") from mistake
        written = (entry.get("width"), entry.get("height"))
        if written == (None, None) or written == header.size:
            return header.size
        turned = ""
        if header.turned:
            turned = " once its EXIF orientation is applied, which the boxes do not know"
        raise DataError(
            f"{place}: the file says {written[0]}x{written[1]} px, but {path} has "
            f"{header.size[0]}x{header.size[1]} px{turned}; annotate the image as it is shown, or "
            "replace it"
        )

    def _captions(self, annotations: list[dict[str, Any]]) -> tuple[str, ...]:
        captions = []
        for annotation in annotations:
            caption = annotation.get("caption")
            if not isinstance(caption, str):
                raise DataError(
                    f"{self._place(annotation)}: caption {shown(caption)} must be a text"
                )
            captions.append(caption)
        return tuple(captions)

    def _instances(self, annotations: list[dict[str, Any]], size: Size) -> tuple[Instance, ...]:
        return tuple(self._instance(annotation, size) for annotation in annotations)

    def _instance(self, annotation: dict[str, Any], size: Size) -> Instance:
        place = self._place(annotation)
        category = annotation.get("category_id")
        if not isinstance(category, int | str) or category not in self.categories:
            raise DataError(
                f"{place}: category_id {shown(category)} is none of the file's categories; "
                "drop the annotation or add its category"
            )
        x, y, width, height = four_numbers(annotation.get("bbox"), place, FORM)
        return Instance(
            label=self.categories[category],
            box=checked_box((x, y, x + width, y + height), size, place, FORM),
            crowd=annotation.get("iscrowd") in (1, True),
        )

    def _place(self, annotation: dict[str, Any]) -> str:
        return f"{self.file}, annotation id {annotation.get('id')}"


def _load(file: Path) -> dict[str, Any]:
    """Parse a file, and make sure that its lists are lists of objects."""
    try:
        content = json.loads(file.read_bytes(), object_hook=_without_segmentation)
    except (ValueError, RecursionError) as mistake:
        raise DataError(f"{file}: not JSON ({mistake}); export the annotations anew") from mistake
    for name in ("images", "annotations", "categories"):
        entries = content.get(name) if isinstance(content, dict) else None
        if entries is None and name == "categories" and isinstance(content, dict):
            continue  # captions have none
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise DataError(
                f"{file}: no list of objects '{name}'; is this a COCO annotation file? "
                "Name the right one in data.splits"
            )
    return dict(content)


def _without_segmentation(written: dict[str, Any]) -> dict[str, Any]:
    """Drop the bulk of a file while it is parsed: its polygons are several times its boxes."""
    written.pop("segmentation", None)
    return written


def _categories(file: Path, categories: list[dict[str, Any]]) -> dict[int | str, str]:
    names: dict[int | str, str] = {}
    for category in categories:
        key, name = category.get("id"), category.get("name")
        if not isinstance(key, int | str) or not isinstance(name, str) or not name.strip():
            raise DataError(f"{file}: category {shown(category)} must have an id and a name")
        names[key] = name
    return names
