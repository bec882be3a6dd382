"""One COCO json file: its images, categories and annotations, checked as they are asked for."""

import json
import os
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from palitune.data.sources.box_formats import BoxFormat, BoxReader
from palitune.data.sources.mask_formats import check_mask_in_box, parse_segmentation
from palitune.data.sources.validation import (
    cached_header_reader,
    check_size,
    image_path,
    image_size,
    short_repr,
)
from palitune.errors import DataError
from palitune.records import Instance, Row, Size

BOX_READER = BoxReader(BoxFormat.xywh)
BOX_DESCRIPTION = BOX_READER.description


@dataclass
class CocoFile:
    """A parsed file."""

    file: Path
    images: list[dict[str, Any]]
    annotations: list[dict[str, Any]]
    categories: dict[int | str, str]
    """Names by id."""
    has_annotations: bool
    """Whether the file has annotations at all; those of test sets have none."""
    load_masks: bool
    """Instances get masks out of the `segmentation` of their annotation."""
    read_header: Any = field(default_factory=cached_header_reader)

    @classmethod
    def load(cls, file: Path, *, load_masks: bool) -> "CocoFile":
        """Parse a file, and make sure that its lists are lists of objects."""
        content = _load_json(file, _pack_polygons if load_masks else _drop_segmentation)
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
            file, content["images"], annotations or [], names, annotations is not None, load_masks
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
                    f"{self.annotation_location(annotation)}: image_id {short_repr(image)} is none of the file's "
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
                f"{self.file}: image {short_repr(entry)} must have an id and a file_name; add them"
            )
        path = image_path(folder, name, place)
        size = image_size(self.read_header, path, place)
        check_size((entry.get("width"), entry.get("height")), self.read_header(path), path, place)
        return path, size, place

    def instance(self, annotation: dict[str, Any], size: Size) -> Instance:
        """Return the object of an annotation in an image of `size`."""
        place = self.annotation_location(annotation)
        category = annotation.get("category_id")
        if not isinstance(category, int | str) or category not in self.categories:
            raise DataError(
                f"{place}: category_id {short_repr(category)} is none of the file's categories; "
                "drop the annotation or add its category"
            )
        box = BOX_READER.read(annotation.get("bbox"), size, place)
        mask = None
        if self.load_masks and annotation.get("segmentation"):
            mask = parse_segmentation(_unpack_polygons(annotation["segmentation"]), size, place)
            check_mask_in_box(mask, box, place)
        return Instance(
            label=self.categories[category],
            box=box,
            mask=mask,
            crowd=annotation.get("iscrowd") in (1, True),
        )

    def annotation_location(self, annotation: dict[str, Any]) -> str:
        return f"{self.file}, annotation id {annotation.get('id')}"

    def _row(
        self, entry: dict[str, Any], by_image: dict[Any, Any], folder: str, has_captions: bool
    ) -> Row:
        path, size, place = self.image(entry, folder)
        annotations = by_image[entry["id"]]
        has_boxes = self.has_annotations and bool(self.categories)
        return Row(
            id=str(entry["id"]),
            images=(path,),
            size=size,
            location=place,
            captions=tuple(map(self._caption, annotations)) if has_captions else None,
            instances=tuple(self.instance(a, size) for a in annotations) if has_boxes else None,
            classes=tuple(dict.fromkeys(self.categories.values())) or None,
        )

    def _caption(self, annotation: dict[str, Any]) -> str:
        caption = annotation.get("caption")
        if not isinstance(caption, str):
            raise DataError(
                f"{self.annotation_location(annotation)}: caption {short_repr(caption)} must be a text"
            )
        return caption


def _load_json(file: Path, hook: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    try:
        return json.loads(file.read_bytes(), object_hook=hook)
    except (ValueError, RecursionError) as mistake:
        raise DataError(f"{file}: not JSON ({mistake}); export the annotations anew") from mistake


def _drop_segmentation(annotation: dict[str, Any]) -> dict[str, Any]:
    """Drop the bulk of a file while it is parsed: its polygons are several times its boxes."""
    annotation.pop("segmentation", None)
    return annotation


def _pack_polygons(annotation: dict[str, Any]) -> dict[str, Any]:
    """Pack the polygons of an annotation while the file is parsed: eight bytes a number, not 32."""
    polygons = annotation.get("segmentation")
    if isinstance(polygons, list):
        try:
            annotation["segmentation"] = [array("d", polygon) for polygon in polygons]
        except (TypeError, OverflowError):  # not numbers: told when its image is read
            annotation["segmentation"] = polygons
    return annotation


def _unpack_polygons(segmentation: Any) -> Any:
    if isinstance(segmentation, list):
        return [
            polygon.tolist() if isinstance(polygon, array) else polygon for polygon in segmentation
        ]
    return segmentation


def _categories(file: Path, categories: list[dict[str, Any]]) -> dict[int | str, str]:
    names: dict[int | str, str] = {}
    for category in categories:
        key, name = category.get("id"), category.get("name")
        if not isinstance(key, int | str) or not isinstance(name, str) or not name.strip():
            raise DataError(f"{file}: category {short_repr(category)} must have an id and a name")
        names[key] = name
    return names
