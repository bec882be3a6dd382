"""The objects of a record.

A list of `{"label": "boat", "box": [x0, y0, x1, y1], "mask": ...}`, or a dictionary of lists,
`{"category": [...], "bbox": [...]}`, as data sets on the Hugging Face hub have it. A label may be
called `category` and be a number where the classes are known. A mask is a polygon, a list of
polygons or COCO's run lengths; `crowd` marks a region of many objects.
"""

from dataclasses import dataclass
from typing import Any

from palitune.data.sources.box_formats import BoxFormat, BoxReader
from palitune.data.sources.checks import shown
from palitune.data.sources.shapes import check_in_box, read_mask
from palitune.examples import DataError, Instance, Size

_LABELS = ("label", "category")
_BOXES = ("box", "bbox")


@dataclass(frozen=True)
class ObjectReader:
    """Read objects as the settings of a source say they are written."""

    box_format: BoxFormat | None
    normalized: bool
    masks: bool
    classes: tuple[str, ...]

    def instances(self, value: Any, size: Size, place: str) -> tuple[Instance, ...] | None:
        """Return the objects of a cell, None where it is empty. Raises DataError."""
        if value is None:
            return None
        objects = _rows(value, place) if isinstance(value, dict) else value
        if not isinstance(objects, list):
            raise DataError(
                f"{place}: column 'instances' must be a list of "
                f'{{"label": ..., "box": {self._form()}}}, not {shown(value)}'
            )
        return tuple(self._instance(written, size, place) for written in objects)

    def _instance(self, written: Any, size: Size, place: str) -> Instance:
        known = written if isinstance(written, dict) else {}
        key = next((name for name in _BOXES if name in known), None)
        label = next((known[name] for name in _LABELS if name in known), None)
        if isinstance(label, int) and not isinstance(label, bool):
            label = self._named(label, place)
        if not isinstance(label, str) or not label.strip() or key is None:
            raise DataError(
                f"{place}: instance {shown(written)} is not "
                f'{{"label": "a name", "box": {self._form()}}}; rename or add what is missing'
            )
        box = self._reader(key, place).read(known[key], size, place)
        mask = None
        if self.masks and known.get("mask") is not None:
            mask = read_mask(known["mask"], size, place, normalized=self.normalized)
            check_in_box(mask, box, place)
        return Instance(label=label, box=box, mask=mask, crowd=known.get("crowd") in (1, True))

    def _named(self, number: int, place: str) -> str:
        if not self.classes:
            raise DataError(
                f"{place}: label {number} is a number; name the classes, in order, with "
                "data.classes=[...]"
            )
        if not 0 <= number < len(self.classes):
            raise DataError(
                f"{place}: label {number} is none of the {len(self.classes)} classes, which count "
                "from 0; add its name to data.classes"
            )
        return self.classes[number]

    def _reader(self, key: str, place: str) -> BoxReader:
        if self.box_format is None and key == "bbox":
            raise DataError(
                f"{place}: a 'bbox' may be several things; say which with data.box_format=xywh "
                "(COCO), xyxy or cxcywh, and data.normalized=true for fractions"
            )
        return BoxReader(self.box_format or BoxFormat.xyxy, self.normalized, is_setting=True)

    def _form(self) -> str:
        return BoxReader(self.box_format or BoxFormat.xyxy, self.normalized).form


def _rows(columns: dict[str, Any], place: str) -> list[dict[str, Any]]:
    """Turn a dictionary of lists into a list of dictionaries."""
    wanted = {name: cell for name, cell in columns.items() if isinstance(cell, list)}
    boxes = next((name for name in _BOXES if name in wanted), None)
    labels = next((name for name in _LABELS if name in wanted), None)
    if boxes is None or labels is None:
        raise DataError(
            f"{place}: objects {shown(columns)} have no list 'bbox' or no list 'category'; "
            "rename the columns"
        )
    count = len(wanted[boxes])
    if len(wanted[labels]) != count:
        raise DataError(
            f"{place}: the objects have {count} boxes but {len(wanted[labels])} labels; "
            "give every box one"
        )
    parallel = {name: cell for name, cell in wanted.items() if len(cell) == count}
    return [{name: cell[index] for name, cell in parallel.items()} for index in range(count)]
