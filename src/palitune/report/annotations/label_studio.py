"""Pre-annotations as tasks of Label Studio with predictions.

Format: https://labelstud.io/guide/predictions. Positions are percents of the image.
"""

import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any
from urllib.parse import quote

from palitune.codec.outlines import mask_outlines
from palitune.codec.parsing import format_json
from palitune.paths import write_atomically
from palitune.records import Example, Instance, Size, Value
from palitune.report.text import escape_unprintable

IMAGE, BOX, POLYGON, TEXT = "image", "label", "polygon", "text"
"""Names of the image and of the controls in `config.xml`."""


def write_label_studio(
    folder: Path, predictions: Sequence[tuple[Example, Value]], classes: Sequence[str], model: str
) -> None:
    """Write `tasks.json` with a prediction per image, and `config.xml` of the interface.

    An image is addressed as a local file, relative to
    `LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT`. A mask is a polygon per outline.
    """
    tasks = [_task(number, *entry, model) for number, entry in enumerate(predictions, 1)]
    with write_atomically(folder / "tasks.json") as temporary:
        temporary.write_text(format_json(tasks, indent=1) + "\n", encoding="utf-8")
    has_text = any(isinstance(value, str) for _, value in predictions)
    ET.ElementTree(_interface(classes, has_text)).write(folder / "config.xml", encoding="utf-8")


def _task(number: int, example: Example, value: Value, model: str) -> dict[str, Any]:
    if isinstance(value, str):
        results = [_result("text", TEXT, "textarea", {"text": [value]}, example.size)] * bool(value)
        scores = []
    else:
        results = [
            result
            for index, instance in enumerate(value)
            for result in _object_results(f"{number}-{index}", instance, example.size)
        ]
        scores = [instance.score for instance in value if instance.score is not None]
    prediction: dict[str, Any] = {"model_version": model, "result": results}
    if scores:
        prediction["score"] = round(fmean(scores), 6)
    return {
        "id": number,
        "data": {IMAGE: f"/data/local-files/?d={quote(example.id)}"},
        "predictions": [prediction],
    }


def _object_results(name: str, instance: Instance, size: Size) -> Iterator[dict[str, Any]]:
    """Yield the regions of an object: a polygon per outline of its mask, else its rectangle."""
    width, height = size
    outlines = [] if instance.mask is None else mask_outlines(instance.mask)
    score = {} if instance.score is None else {"score": round(instance.score, 6)}
    for index, outline in enumerate(outlines):
        points = [[round(100 * x / width, 4), round(100 * y / height, 4)] for x, y in outline]
        value = {"points": points, "closed": True, "polygonlabels": [instance.label]}
        yield _result(f"{name}-{index}", POLYGON, "polygonlabels", value, size) | score
    if not outlines:
        x0, y0, x1, y1 = instance.box
        sides = {
            "x": 100 * x0 / width,
            "y": 100 * y0 / height,
            "width": 100 * (x1 - x0) / width,
            "height": 100 * (y1 - y0) / height,
        }
        value = {key: round(side, 4) for key, side in sides.items()}
        value |= {"rotation": 0, "rectanglelabels": [instance.label]}
        yield _result(name, BOX, "rectanglelabels", value, size) | score


def _result(
    name: str, control: str, kind: str, value: dict[str, Any], size: Size
) -> dict[str, Any]:
    """Return a region or a text.

    Args:
        name: Id of the result in its task.
        control: Name of the control in `config.xml`.
        kind: Type of the control in lower case.
        value: Shape and labels, or the text.
        size: (width, height) in pixels of the image.
    """
    return {
        "id": name,
        "from_name": control,
        "to_name": IMAGE,
        "type": kind,
        "original_width": size[0],
        "original_height": size[1],
        "image_rotation": 0,
        "value": value,
    }


def _interface(classes: Sequence[str], has_text: bool) -> ET.Element:
    view = ET.Element("View")
    ET.SubElement(view, "Image", name=IMAGE, value=f"${IMAGE}")
    for control, name in (("RectangleLabels", BOX), ("PolygonLabels", POLYGON)):
        if classes:
            labels = ET.SubElement(view, control, name=name, toName=IMAGE)
            for label in classes:
                ET.SubElement(labels, "Label", value=escape_unprintable(label))
    if has_text:
        ET.SubElement(view, "TextArea", name=TEXT, toName=IMAGE, editable="true")
    ET.indent(view)
    return view
