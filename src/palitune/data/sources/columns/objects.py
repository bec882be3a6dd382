"""Objects of a record.

They are a list of `{"label": "boat", "box": [x0, y0, x1, y1], "mask": ...}`, or a dictionary of
lists, `{"category": [...], "bbox": [...]}`, as in data sets of the Hugging Face hub. The label may
be named `category`, and may be a number if the classes are known. A mask is a polygon, a list of
polygons or COCO's run lengths; `crowd` marks a region of many objects.
"""

from dataclasses import dataclass, field
from typing import Any

from palitune.data.sources.box_formats import BoxFormat, BoxLimits, BoxReader
from palitune.data.sources.masks.formats import check_mask_in_box, parse_segmentation
from palitune.data.sources.validation import collect, short_repr
from palitune.errors import DataError
from palitune.records import Instance, Size

_LABEL_KEYS = ("label", "category")
_BOX_KEYS = ("box", "bbox")


@dataclass(frozen=True)
class ObjectReader:
    """Parse objects in the notation given by the settings of a source."""

    box_format: BoxFormat | None
    normalized: bool
    masks: bool
    classes: tuple[str, ...]
    limits: BoxLimits = field(default_factory=BoxLimits)

    def instances(self, value: Any, size: Size, location: str) -> tuple[Instance, ...] | None:
        """Return the objects of a cell, None if it is empty. Raises DataError."""
        if value is None:
            return None
        objects = _rows_from_columns(value, location) if isinstance(value, dict) else value
        if not isinstance(objects, list):
            raise DataError(
                f"{location}: column 'instances' must be a list of "
                f'{{"label": ..., "box": {self._box_description()}}}, got {short_repr(value)}.'
            )
        return collect(lambda entry: self._instance(entry, size, location), objects)

    def _instance(self, annotation: Any, size: Size, location: str) -> Instance:
        fields = annotation if isinstance(annotation, dict) else {}
        key = next((name for name in _BOX_KEYS if name in fields), None)
        label = next((fields[name] for name in _LABEL_KEYS if name in fields), None)
        if isinstance(label, int) and not isinstance(label, bool):
            label = self._class_name(label, location)
        if not isinstance(label, str) or not label.strip() or key is None:
            raise DataError(
                f"{location}: instance must be "
                f'{{"label": "a name", "box": {self._box_description()}}}, '
                f"got {short_repr(annotation)}. Add or rename its keys."
            )
        box = self._box_reader(key, location).read(fields[key], size, location)
        mask = None
        if self.masks and fields.get("mask") is not None:
            mask = parse_segmentation(fields["mask"], size, location, normalized=self.normalized)
            check_mask_in_box(mask, box, location)
        return Instance(label=label, box=box, mask=mask, crowd=fields.get("crowd") in (1, True))

    def _class_name(self, class_id: int, location: str) -> str:
        if 0 <= class_id < len(self.classes):
            return self.classes[class_id]
        expected = f"0 to {len(self.classes) - 1}" if self.classes else "a name"
        raise DataError(
            f"{location}: label must be {expected}, got {class_id}. List the classes, in order, "
            "with data.classes=[...]."
        )

    def _box_reader(self, key: str, location: str) -> BoxReader:
        if self.box_format is None and key == "bbox":
            raise DataError(
                f"{location}: the format of 'bbox' is ambiguous. Set data.box_format=xywh (COCO), "
                "xyxy or cxcywh, and data.normalized=true for fractions."
            )
        box_format = self.box_format or BoxFormat.xyxy
        return BoxReader(box_format, self.normalized, is_user_setting=True, limits=self.limits)

    def _box_description(self) -> str:
        return BoxReader(self.box_format or BoxFormat.xyxy, self.normalized).description


def _rows_from_columns(columns: dict[str, Any], location: str) -> list[dict[str, Any]]:
    """Convert a dictionary of lists to a list of dictionaries."""
    lists = {name: cell for name, cell in columns.items() if isinstance(cell, list)}
    boxes = next((name for name in _BOX_KEYS if name in lists), None)
    labels = next((name for name in _LABEL_KEYS if name in lists), None)
    if boxes is None or labels is None:
        raise DataError(
            f"{location}: objects must have a list 'bbox' and a list 'category', got "
            f"{short_repr(columns)}. Rename the columns."
        )
    count = len(lists[boxes])
    if len(lists[labels]) != count:
        raise DataError(
            f"{location}: objects must have a label for each of {count} boxes, got "
            f"{len(lists[labels])} labels."
        )
    parallel = {name: cell for name, cell in lists.items() if len(cell) == count}
    return [{name: cell[index] for name, cell in parallel.items()} for index in range(count)]
