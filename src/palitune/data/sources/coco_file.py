"""One COCO json file: its images, categories and annotations, checked as they are asked for."""

import json
import os
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from palitune.data.sources.box_formats import BoxFormat, BoxReader
from palitune.data.sources.checks import check_size, header_reader, image_path, image_size, shown
from palitune.data.sources.shapes import check_in_box, read_mask
from palitune.examples import DataError, Instance, Row, Size

BOXES = BoxReader(BoxFormat.xywh)
FORM = BOXES.form


@dataclass
class CocoFile:
    """A parsed file."""

    file: Path
    images: list[dict[str, Any]]
    annotations: list[dict[str, Any]]
    categories: dict[int | str, str]
    """Names by id."""
    annotated: bool
    """Whether the file has annotations at all; those of test sets have none."""
    masks: bool
    """Instances get masks out of the `segmentation` of their annotation."""
    header: Any = field(default_factory=header_reader)

    @classmethod
    def load(cls, file: Path, *, masks: bool) -> "CocoFile":
        """Parse a file, and make sure that its lists are lists of objects."""
        content = _parsed(file, _packed if masks else _without_segmentation)
        for name in ("images", "annotations", "categories"):
            entries = content.get(name) if isinstance(content, dict) else None
            if entries is None and name != "images" and isinstance(content, dict):
                continue  # captions have no categories, test sets no annotations
            if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
                raise DataError(
                    f"{file}: no list of objects '{name}'; is this a COCO annotation file? "
                    "Name the right one in data.splits"
                )
        names = _categories(file, content.get("categories", []))
        annotations = content.get("annotations")
        return cls(
            file, content["images"], annotations or [], names, annotations is not None, masks
        )

    def rows(self, folder: Path) -> Iterator[Row | DataError]:
        """Yield what belongs to no image, then the images in file order, out of `folder`."""
        by_image: dict[Any, list[dict[str, Any]]] = {
            key: [] for entry in self.images if isinstance(key := entry.get("id"), int | str)
        }
        for annotation in self.annotations:
            image = annotation.get("image_id")
            if isinstance(image, int | str) and image in by_image:
                by_image[image].append(annotation)
            else:
                yield DataError(
                    f"{self.place(annotation)}: image_id {shown(image)} is none of the file's "
                    "images; drop the annotation or add its image"
                )
        has_captions = any("caption" in annotation for annotation in self.annotations)
        for entry in self.images:
            try:
                yield self._row(entry, by_image, os.path.abspath(folder), has_captions)
            except DataError as mistake:
                yield mistake

    def image(self, entry: dict[str, Any], folder: str) -> tuple[str, Size, str]:
        """Return an image's path, its own size where the file says the same, and its place."""
        key, name = entry.get("id"), entry.get("file_name")
        place = f"{self.file}, image id {key}"
        if not isinstance(key, int | str) or not isinstance(name, str) or not name:
            raise DataError(
                f"{self.file}: image {shown(entry)} must have an id and a file_name; add them"
            )
        path = image_path(folder, name, place)
        size = image_size(self.header, path, place)
        check_size((entry.get("width"), entry.get("height")), self.header(path), path, place)
        return path, size, place

    def instance(self, annotation: dict[str, Any], size: Size) -> Instance:
        """Return the object of an annotation in an image of `size`."""
        place = self.place(annotation)
        category = annotation.get("category_id")
        if not isinstance(category, int | str) or category not in self.categories:
            raise DataError(
                f"{place}: category_id {shown(category)} is none of the file's categories; "
                "drop the annotation or add its category"
            )
        box = BOXES.read(annotation.get("bbox"), size, place)
        mask = None
        if self.masks and annotation.get("segmentation"):
            mask = read_mask(_unpacked(annotation["segmentation"]), size, place)
            check_in_box(mask, box, place)
        return Instance(
            label=self.categories[category],
            box=box,
            mask=mask,
            crowd=annotation.get("iscrowd") in (1, True),
        )

    def place(self, annotation: dict[str, Any]) -> str:
        return f"{self.file}, annotation id {annotation.get('id')}"

    def _row(
        self, entry: dict[str, Any], by_image: dict[Any, Any], folder: str, has_captions: bool
    ) -> Row:
        path, size, place = self.image(entry, folder)
        annotations = by_image[entry["id"]]
        has_boxes = self.annotated and bool(self.categories)
        return Row(
            id=str(entry["id"]),
            images=(path,),
            size=size,
            place=place,
            captions=tuple(map(self._caption, annotations)) if has_captions else None,
            instances=tuple(self.instance(a, size) for a in annotations) if has_boxes else None,
            classes=tuple(dict.fromkeys(self.categories.values())) or None,
        )

    def _caption(self, annotation: dict[str, Any]) -> str:
        caption = annotation.get("caption")
        if not isinstance(caption, str):
            raise DataError(f"{self.place(annotation)}: caption {shown(caption)} must be a text")
        return caption


def _parsed(file: Path, hook: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    try:
        return json.loads(file.read_bytes(), object_hook=hook)
    except (ValueError, RecursionError) as mistake:
        raise DataError(f"{file}: not JSON ({mistake}); export the annotations anew") from mistake


def _without_segmentation(written: dict[str, Any]) -> dict[str, Any]:
    """Drop the bulk of a file while it is parsed: its polygons are several times its boxes."""
    written.pop("segmentation", None)
    return written


def _packed(written: dict[str, Any]) -> dict[str, Any]:
    """Pack the polygons of an annotation while the file is parsed: eight bytes a number, not 32."""
    polygons = written.get("segmentation")
    if isinstance(polygons, list):
        try:
            written["segmentation"] = [array("d", polygon) for polygon in polygons]
        except (TypeError, OverflowError):  # not numbers: told when its image is read
            written["segmentation"] = polygons
    return written


def _unpacked(written: Any) -> Any:
    if isinstance(written, list):
        return [polygon.tolist() if isinstance(polygon, array) else polygon for polygon in written]
    return written


def _categories(file: Path, categories: list[dict[str, Any]]) -> dict[int | str, str]:
    names: dict[int | str, str] = {}
    for category in categories:
        key, name = category.get("id"), category.get("name")
        if not isinstance(key, int | str) or not isinstance(name, str) or not name.strip():
            raise DataError(f"{file}: category {shown(category)} must have an id and a name")
        names[key] = name
    return names
