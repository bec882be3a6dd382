"""The objects of a record.

A list of `{"label": "boat", "box": [x0, y0, x1, y1], "mask": ...}`, or a dictionary of lists,
`{"category": [...], "bbox": [...]}`, as data sets on the Hugging Face hub have it. A label may be
called `category` and be a number where the classes are known. A mask is a polygon, a list of
polygons or COCO's run lengths; `crowd` marks a region of many objects.
"""

from dataclasses import dataclass
from typing import Any

from palitune.data.sources.box_formats import BoxFormat, BoxReader
from palitune.data.sources.mask_formats import check_mask_in_box, parse_segmentation
from palitune.data.sources.validation import short_repr
from palitune.errors import DataError
from palitune.records import Instance, Size

_LABEL_KEYS = ("label", "category")
_BOX_KEYS = ("box", "bbox")


@dataclass(frozen=True)
class ObjectReader:
    """Read objects as the settings of a source say they are written."""

    box_format: BoxFormat | None
    normalized: bool
    masks: bool
    classes: tuple[str, ...]

    def instances(self, value: Any, size: Size, location: str) -> tuple[Instance, ...] | None:
        """Return the objects of a cell, None where it is empty. Raises DataError."""
        if value is None:
            return None
        objects = _rows_from_columns(value, location) if isinstance(value, dict) else value
        if not isinstance(objects, list):
            raise DataError(
                f"{location}: column 'instances' must be a list of "
                f'{{"label": ..., "box": {self._box_description()}}}, not {short_repr(value)}'
            )
        return tuple(self._instance(written, size, location) for written in objects)

    def _instance(self, annotation: Any, size: Size, location: str) -> Instance:
        known = annotation if isinstance(annotation, dict) else {}
        key = next((name for name in _BOX_KEYS if name in known), None)
        label = next((known[name] for name in _LABEL_KEYS if name in known), None)
        if isinstance(label, int) and not isinstance(label, bool):
            label = self._class_name(label, location)
        if not isinstance(label, str) or not label.strip() or key is None:
            raise DataError(
                f"{location}: instance {short_repr(annotation)} is not "
                f'{{"label": "a name", "box": {self._box_description()}}}; rename or add what is missing'
            )
        box = self._box_reader(key, location).read(known[key], size, location)
        mask = None
        if self.masks and known.get("mask") is not None:
            mask = parse_segmentation(known["mask"], size, location, normalized=self.normalized)
            check_mask_in_box(mask, box, location)
        return Instance(label=label, box=box, mask=mask, crowd=known.get("crowd") in (1, True))

    def _class_name(self, class_id: int, location: str) -> str:
        if not self.classes:
            raise DataError(
                f"{location}: label {class_id} is a number; name the classes, in order, with "
                "data.classes=[...]"
            )
        if not 0 <= class_id < len(self.classes):
            raise DataError(
                f"{location}: label {class_id} is none of the {len(self.classes)} classes, which count "
                "from 0; add its name to data.classes"
            )
        return self.classes[class_id]

    def _box_reader(self, key: str, location: str) -> BoxReader:
        if self.box_format is None and key == "bbox":
            raise DataError(
                f"{location}: a 'bbox' may be several things; say which with data.box_format=xywh "
                "(COCO), xyxy or cxcywh, and data.normalized=true for fractions"
            )
        return BoxReader(self.box_format or BoxFormat.xyxy, self.normalized, is_user_setting=True)

    def _box_description(self) -> str:
        return BoxReader(self.box_format or BoxFormat.xyxy, self.normalized).description


def _rows_from_columns(columns: dict[str, Any], location: str) -> list[dict[str, Any]]:
    """Turn a dictionary of lists into a list of dictionaries."""
    wanted = {name: cell for name, cell in columns.items() if isinstance(cell, list)}
    boxes = next((name for name in _BOX_KEYS if name in wanted), None)
    labels = next((name for name in _LABEL_KEYS if name in wanted), None)
    if boxes is None or labels is None:
        raise DataError(
            f"{location}: objects {short_repr(columns)} have no list 'bbox' or no list 'category'; "
            "rename the columns"
        )
    count = len(wanted[boxes])
    if len(wanted[labels]) != count:
        raise DataError(
            f"{location}: the objects have {count} boxes but {len(wanted[labels])} labels; "
            "give every box one"
        )
    parallel = {name: cell for name, cell in wanted.items() if len(cell) == count}
    return [{name: cell[index] for name, cell in parallel.items()} for index in range(count)]
