"""Pre-annotations as XML files of Pascal VOC."""

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

from palitune.records import Example, Instance, Value
from palitune.report.annotations.files import annotation_path
from palitune.report.text import escape_unprintable


def write_voc(
    folder: Path, predictions: Sequence[tuple[Example, Value]], _: Sequence[str], model: str
) -> None:
    """Write `Annotations/NAME.xml` per image; each object has a `score`, which readers ignore."""
    for example, value in predictions:
        root = ET.Element("annotation")
        _add(root, "folder", "JPEGImages")
        _add(root, "filename", example.id)
        _add(_add(root, "source"), "annotation", model)
        size = _add(root, "size")
        for name, number in zip(("width", "height", "depth"), (*example.size, 3), strict=True):
            _add(size, name, str(number))
        for instance in value:
            assert not isinstance(instance, str)
            _add_object(root, instance)
        ET.indent(root)
        file = annotation_path(folder / "Annotations", example.id, ".xml")
        ET.ElementTree(root).write(file, encoding="utf-8", xml_declaration=True)


def _add(parent: ET.Element, name: str, text: str = "") -> ET.Element:
    element = ET.SubElement(parent, name)
    element.text = escape_unprintable(text) or None
    return element


def _add_object(root: ET.Element, instance: Instance) -> None:
    element = _add(root, "object")
    _add(element, "name", instance.label)
    for flag in ("truncated", "difficult"):
        _add(element, flag, "0")
    if instance.score is not None:
        _add(element, "score", f"{instance.score:.6f}")
    box = _add(element, "bndbox")
    # Pixels of VOC count from 1, and the last ones belong to the box.
    x0, y0, x1, y1 = instance.box
    sides = {"xmin": x0 + 1, "ymin": y0 + 1, "xmax": x1, "ymax": y1}
    for name, side in sides.items():
        _add(box, name, str(round(side)))
