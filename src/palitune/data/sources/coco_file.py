"""A COCO JSON file: images, categories and annotations, validated when they are accessed."""

import os
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from palitune.data.sources.box_formats import BoxClipping, BoxFormat, BoxLimits, BoxReader
from palitune.data.sources.masks.formats import check_mask_in_box, parse_segmentation
from palitune.data.sources.validation import (
    are_numbers,
    cached_header_reader,
    check_size,
    collect,
    image_path,
    image_size,
    read_json,
    rows_or_errors,
    short_repr,
)
from palitune.errors import DataError, LeftOut
from palitune.records import Instance, Row, Size


@dataclass
class CocoFile:
    """Content of a COCO JSON file."""

    file: Path
    images: list[dict[str, Any]]
    annotations: list[dict[str, Any]]
    categories: dict[int | str, str]
    """Names by id."""
    has_annotations: bool
    """Whether the file has a list of annotations; files of test sets have none."""
    load_masks: bool
    """Read the `segmentation` of annotations."""
    limits: BoxLimits = field(default_factory=BoxLimits)
    """How far boxes may lie beyond the edge, and what the latest row leaves out."""
    read_header: Any = field(default_factory=cached_header_reader)

    def __post_init__(self) -> None:
        self._box_reader = BoxReader(BoxFormat.xywh, limits=self.limits)
        self._file = str(self.file)
        self._classes = tuple(dict.fromkeys(self.categories.values())) or None

    @classmethod
    def load(
        cls, file: Path, *, load_masks: bool, clip_boxes: BoxClipping = BoxClipping.edge
    ) -> "CocoFile":
        """Parse a file. Raises DataError if it is not in COCO format."""
        hook = _pack_polygons if load_masks else _drop_segmentation
        content = read_json(file, "Export the annotations again.", hook)
        for name in ("images", "annotations", "categories"):
            entries = content.get(name) if isinstance(content, dict) else None
            if entries is None and name != "images" and isinstance(content, dict):
                continue  # captions have no categories, test sets no annotations
            if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
                raise DataError(
                    f"{file}: a COCO annotation file must have a list of objects '{name}', got "
                    f"{short_repr(entries)}. Set the right file in data.splits."
                )
        names = _categories(file, content.get("categories") or [])
        annotations = content.get("annotations")
        return cls(
            file, content["images"], annotations or [], names, annotations is not None, load_masks,
            BoxLimits(clip_boxes),
        )  # fmt: skip

    def rows(self, folder: Path) -> Iterator[Row | DataError]:
        """Yield an error for each annotation without image, then a row for each image."""
        by_image: dict[Any, list[dict[str, Any]]] = {
            key: [] for entry in self.images if isinstance(key := entry.get("id"), int | str)
        }
        for annotation in self.annotations:
            image = annotation.get("image_id")
            if _has_no_area(annotation):
                yield LeftOut("objects without area", self.annotation_location(annotation))
            elif isinstance(image, int | str) and image in by_image:
                by_image[image].append(annotation)
            else:
                yield DataError(
                    f"{self.annotation_location(annotation)}: image_id must be an image of the "
                    f"file, got {short_repr(image)}. Drop the annotation, or add its image."
                )
        for key, name in self.repeated_categories():
            location = f"{self.file}, category id {key}"
            yield LeftOut(f"categories named {name!r} like an earlier one, now one class", location)
        has_captions = any("caption" in annotation for annotation in self.annotations)
        image_folder = os.path.abspath(folder)
        yield from rows_or_errors(
            lambda entry: self._row(entry, by_image, image_folder, has_captions),
            self.images,
            self.limits.left_out,
        )

    def repeated_categories(self) -> Iterator[tuple[int | str, str]]:
        """Yield id and name of each category that has the name of an earlier one."""
        seen: set[str] = set()
        for key, name in self.categories.items():
            if name in seen:
                yield key, name
            seen.add(name)

    def image(self, entry: dict[str, Any], folder: str) -> tuple[str, Size, str]:
        """Return path, size and location of an image. Raises DataError if its size differs."""
        key, name = entry.get("id"), entry.get("file_name")
        location = f"{self.file}, image id {key}"
        if not isinstance(key, int | str) or not isinstance(name, str) or not name:
            raise DataError(
                f"{self.file}: image must have an id and a file_name, got {short_repr(entry)}. Add "
                "them."
            )
        path = image_path(folder, name, location)
        size = image_size(self.read_header, path, location)
        if (declared_size := (entry.get("width"), entry.get("height"))) != size:
            check_size(declared_size, self.read_header(path), path, location)
        return path, size, location

    def instance(
        self, annotation: dict[str, Any], size: Size, *, allow_empty_mask: bool = False
    ) -> Instance:
        """Return the object of an annotation in an image of `size`."""
        location = self.annotation_location(annotation)
        category = annotation.get("category_id")
        if not isinstance(category, int | str) or category not in self.categories:
            raise DataError(
                f"{location}: category_id must be a category of the file, got "
                f"{short_repr(category)}. Drop the annotation, or add its category."
            )
        box = self._box_reader.read(annotation.get("bbox"), size, location)
        mask = None
        if self.load_masks and annotation.get("segmentation"):
            segmentation = _unpack_polygons(annotation["segmentation"])
            mask = parse_segmentation(segmentation, size, location, allow_empty=allow_empty_mask)
            check_mask_in_box(mask, box, location)
        return Instance(
            label=self.categories[category],
            box=box,
            mask=mask,
            crowd=_is_crowd(annotation, location),
        )

    def annotation_location(self, annotation: dict[str, Any]) -> str:
        return f"{self._file}, annotation id {annotation.get('id')}"

    def _row(
        self, entry: dict[str, Any], by_image: dict[Any, Any], folder: str, has_captions: bool
    ) -> Row:
        path, size, location = self.image(entry, folder)
        annotations = by_image[entry["id"]]
        has_boxes = self.has_annotations and bool(self.categories)
        return Row(
            id=str(entry["id"]),
            images=(path,),
            size=size,
            location=location,
            captions=tuple(map(self._caption, annotations)) if has_captions else None,
            instances=self._instances(annotations, size) if has_boxes else None,
            classes=self._classes,
        )

    def _instances(self, annotations: list[dict[str, Any]], size: Size) -> tuple[Instance, ...]:
        """Return the objects of an image, without those whose mask has no pixel."""
        instances = []
        read = collect(lambda a: self.instance(a, size, allow_empty_mask=True), annotations)
        for annotation, instance in zip(annotations, read, strict=True):
            if instance.mask is None or instance.mask.any():
                instances.append(instance)
            else:
                location = self.annotation_location(annotation)
                self.limits.left_out.append(LeftOut("masks without pixels", location))
        return tuple(instances)

    def _caption(self, annotation: dict[str, Any]) -> str:
        caption = annotation.get("caption")
        if not isinstance(caption, str):
            raise DataError(
                f"{self.annotation_location(annotation)}: caption must be a text, got "
                f"{short_repr(caption)}."
            )
        return caption


def _is_crowd(annotation: dict[str, Any], location: str) -> bool:
    """Return COCO's `iscrowd`, which is 0 or 1; an absent one is 0."""
    value = annotation.get("iscrowd")
    if value is None or (isinstance(value, int | float) and value in (0, 1)):
        return bool(value)
    raise DataError(
        f"{location}: iscrowd must be 0 or 1, got {short_repr(value)}. Export the annotations "
        "again."
    )


def _has_no_area(annotation: dict[str, Any]) -> bool:
    """Return whether the box of an object has the width or height 0."""
    box = annotation.get("bbox")
    return (
        isinstance(box, list)
        and len(box) == 4
        and are_numbers(box)
        and (0 in box[2:] and min(box[2:]) >= 0)
    )


def _drop_segmentation(annotation: dict[str, Any]) -> dict[str, Any]:
    """Drop polygons while the file is parsed: they take several times the memory of the boxes."""
    annotation.pop("segmentation", None)
    return annotation


def _pack_polygons(annotation: dict[str, Any]) -> dict[str, Any]:
    """Pack polygons while the file is parsed: 8 bytes per number instead of 32."""
    polygons = annotation.get("segmentation")
    if isinstance(polygons, list):
        try:
            annotation["segmentation"] = [array("d", polygon) for polygon in polygons]
        except (TypeError, OverflowError):  # not numbers: reported when its row is built
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
            raise DataError(
                f"{file}: category must have an id and a name, got {short_repr(category)}."
            )
        if names.setdefault(key, name) != name:
            raise DataError(
                f"{file}: category ids must be unique, got id {short_repr(key)} for "
                f"{short_repr(names[key])} and {short_repr(name)}. Give one of them another id."
            )
    return names
