"""Pre-annotations are read back by the project's own sources, and follow Label Studio's format."""

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from palitune.config.compose import compose
from palitune.config.recipes import Predict
from palitune.data.sources.base import Source
from palitune.data.sources.coco import Coco
from palitune.data.sources.voc import Voc
from palitune.data.sources.yolo import Yolo
from palitune.errors import DataError
from palitune.metrics.objects.matching import box_iou
from palitune.records import Example, Instance, Prediction, Row, Value
from palitune.report.annotations.config import AnnotationFormat
from palitune.report.annotations.files import check_distinct
from palitune.report.annotations.formats import PreAnnotations
from palitune.tasks.detection import Detection
from palitune.tasks.ocr import Ocr

MASK = np.zeros((40, 60), bool)
MASK[5:20, 5:30] = True
MASK[10:14, 10:20] = False
OBJECTS = (
    Instance("boat", (5, 5, 30, 20), score=0.75),
    Instance("sea gull", (31.5, 20.25, 60, 40), score=0.125),
)


def write(folder: Path, chosen: AnnotationFormat, *values: Value | None, task: Any = None) -> Path:
    """Write predictions for images `more/0.jpg`, ... of 60 x 40 pixels; return the folder."""
    task = task or Detection(classes=["buoy", "boat"])
    annotations = PreAnnotations([chosen], "tiny, adapter", task)
    for index, value in enumerate(values):
        name = f"more/{index}.jpg"
        (folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (60, 40)).save(folder / "images" / name)
        example = Example(
            id=name,
            images=(str(folder / "images" / name),),
            size=(60, 40),
            prefix="detect boat",
            suffixes=(),
            reference=(),
            location="",
        )
        annotations.add(example, Prediction(id=name, text="", value=value))
    (written,) = annotations.write(folder)
    return written


def read_rows(source: Source, file: Path) -> list[Row]:
    rows = list(source.read(file, "train"))
    assert all(isinstance(row, Row) for row in rows), rows
    return rows  # type: ignore[return-value]


def assert_same_objects(row: Row, tolerance: float) -> None:
    assert row.instances is not None
    assert [i.label for i in row.instances] == ["boat", "sea gull"]
    for read, written in zip(row.instances, OBJECTS, strict=True):
        assert read.box == pytest.approx(written.box, abs=tolerance)


def test_coco_is_read_back_and_has_scores(tmp_path: Path) -> None:
    written = write(tmp_path, AnnotationFormat.coco, OBJECTS, (), None)
    content = json.loads((written / "annotations.json").read_text(encoding="utf-8"))
    assert [c["name"] for c in content["categories"]] == ["buoy", "boat", "sea gull"]
    assert [a["score"] for a in content["annotations"]] == [0.75, 0.125]
    file = tmp_path / "train.json"
    file.write_text(json.dumps(content))
    rows = read_rows(Coco(path=str(tmp_path), images="images"), file)
    assert_same_objects(rows[0], 0.01)
    assert [len(row.instances or ()) for row in rows] == [2, 0, 0]


def test_a_mask_stays_exact_in_coco(tmp_path: Path) -> None:
    masked = (Instance("boat", (5, 5, 30, 20), MASK, 0.5),)
    written = write(tmp_path, AnnotationFormat.coco, masked)
    file = tmp_path / "train.json"
    file.write_bytes((written / "annotations.json").read_bytes())
    (row,) = read_rows(Coco(path=str(tmp_path), images="images", masks=True), file)
    assert row.instances is not None
    assert row.instances[0].mask is not None
    assert (row.instances[0].mask == MASK).all()


def test_yolo_is_read_back_and_has_scores_beside_it(tmp_path: Path) -> None:
    written = write(tmp_path, AnnotationFormat.yolo, OBJECTS, ())
    (tmp_path / "images").rename(written / "images")
    rows = read_rows(Yolo(path=str(written)), written / "data.yaml")
    assert_same_objects(rows[0], 0.01)
    assert rows[1].instances == ()
    scored = (written / "labels_with_scores/more/0.txt").read_text().splitlines()
    assert [line.split()[0] for line in scored] == ["1", "2"]
    assert [line.split()[-1] for line in scored] == ["0.750000", "0.125000"]


def test_a_mask_is_a_polygon_in_yolo(tmp_path: Path) -> None:
    solid = np.zeros((40, 60), bool)
    solid[5:20, 6:30] = True
    masked = (Instance("boat", (6, 5, 30, 20), solid, 0.5),)
    written = write(tmp_path, AnnotationFormat.yolo, masked)
    number, *points = (written / "labels/more/0.txt").read_text().split()
    assert number == "1"
    corners = {
        (60 * float(x), 40 * float(y)) for x, y in zip(points[::2], points[1::2], strict=True)
    }
    assert sorted(corners) == [
        pytest.approx(corner, abs=1e-3) for corner in ((6, 5), (6, 20), (30, 5), (30, 20))
    ]


def test_voc_is_read_back_and_has_scores(tmp_path: Path) -> None:
    written = write(tmp_path, AnnotationFormat.voc, OBJECTS)
    file = written / "Annotations/more/0.xml"
    root = ET.parse(file).getroot()
    assert [e.text for e in root.iter("score")] == ["0.750000", "0.125000"]
    assert [e.text for e in root.findall("object/name")] == ["boat", "sea gull"]
    corners = [[int(e.text or "") for e in box] for box in root.iter("bndbox")]
    assert corners[0] == [6, 6, 30, 20]  # pixels count from 1
    box = (corners[1][0] - 1, corners[1][1] - 1, corners[1][2], corners[1][3])
    assert box_iou(box, OBJECTS[1].box) > 0.95
    assert Voc.name == "voc"


# Label Studio, "Import pre-annotated data into Label Studio" (labelstud.io/guide/predictions): the
# JSON schema of a task with predictions, for the results that are written here.
PERCENT = {"type": "number", "minimum": 0, "maximum": 100}
SHAPES: dict[str, dict[str, Any]] = {
    "rectanglelabels": {
        "required": ["x", "y", "width", "height", "rotation", "rectanglelabels"],
        "properties": {
            **dict.fromkeys(("x", "y", "width", "height"), PERCENT),
            "rotation": {"type": "number", "minimum": 0, "maximum": 360},
            "rectanglelabels": {"type": "array", "items": {"type": "string"}},
        },
    },
    "polygonlabels": {
        "required": ["points", "polygonlabels"],
        "properties": {
            "points": {"type": "array", "items": {"type": "array", "items": PERCENT}},
            "closed": {"type": "boolean"},
            "polygonlabels": {"type": "array", "items": {"type": "string"}},
        },
    },
    "textarea": {
        "required": ["text"],
        "properties": {"text": {"type": "array", "items": {"type": "string"}}},
    },
}
RESULT = {
    "required": ["id", "from_name", "to_name", "type", "value"],
    "properties": {
        "id": {"type": "string"},
        "from_name": {"type": "string"},
        "to_name": {"type": "string"},
        "type": {"enum": list(SHAPES)},
        "original_width": {"type": "integer"},
        "original_height": {"type": "integer"},
        "image_rotation": {"enum": [0, 90, 180, 270]},
        "score": {"type": "number", "minimum": 0, "maximum": 1},
        "value": {"type": "object"},
    },
}
TASKS = {
    "type": "array",
    "items": {
        "required": ["data", "predictions"],
        "properties": {
            "id": {"type": "integer"},
            "data": {"required": ["image"], "properties": {"image": {"type": "string"}}},
            "predictions": {
                "type": "array",
                "items": {
                    "required": ["result"],
                    "properties": {
                        "model_version": {"type": "string"},
                        "score": {"type": "number", "minimum": 0, "maximum": 1},
                        "result": {"type": "array", "items": RESULT},
                    },
                },
            },
        },
    },
}
TYPES = {
    "array": list, "boolean": bool, "integer": int, "number": int | float, "object": dict,
    "string": str,
}  # fmt: skip


def check_schema(value: Any, schema: dict[str, Any], place: str = "$") -> None:
    """Assert that a value follows the part of JSON Schema used above; no property is unknown."""
    if "type" in schema:
        assert isinstance(value, TYPES[schema["type"]]), place
    if "enum" in schema:
        assert value in schema["enum"], place
    assert (
        schema.get("minimum", -1e9) <= value <= schema["maximum"] if "maximum" in schema else 1
    ), place
    for item in value if "items" in schema else ():
        check_schema(item, schema["items"], f"{place}[]")
    if "properties" in schema:
        assert set(schema["required"]) <= set(value) <= set(schema["properties"]), place
        for name, inner in value.items():
            check_schema(inner, schema["properties"][name], f"{place}.{name}")


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (OBJECTS, "rectanglelabels"),
        ((Instance("boat", (5, 5, 30, 20), MASK, 0.5),), "polygonlabels"),
        ("a red boat", "textarea"),
    ],
)
def test_label_studio_tasks_follow_its_schema(tmp_path: Path, value: Value, kind: str) -> None:
    task = Ocr() if kind == "textarea" else None
    written = write(tmp_path, AnnotationFormat.label_studio, value, None, task=task)
    tasks = json.loads((written / "tasks.json").read_text(encoding="utf-8"))
    check_schema(tasks, TASKS)
    assert tasks[0]["data"]["image"] == "/data/local-files/?d=more/0.jpg"
    results = tasks[0]["predictions"][0]["result"]
    assert {result["type"] for result in results} == {kind}
    for result in results:
        check_schema(result["value"], {"type": "object", **SHAPES[kind]})
    assert tasks[1]["predictions"][0]["result"] == []
    # Every result refers to a control of the interface, with a label that it offers.
    view = ET.parse(written / "config.xml").getroot()
    for result in results:
        (control,) = view.findall(f"*[@name='{result['from_name']}']")
        assert control.tag.lower() == kind
        assert control.get("toName") == result["to_name"] == "image"
        offered = {label.get("value") for label in control}
        assert set(result["value"].get(kind, [])) <= offered


def test_positions_of_label_studio_are_percents(tmp_path: Path) -> None:
    written = write(tmp_path, AnnotationFormat.label_studio, OBJECTS)
    ((task),) = json.loads((written / "tasks.json").read_text(encoding="utf-8"))
    first, second = (result["value"] for result in task["predictions"][0]["result"])
    assert (first["x"], first["y"]) == pytest.approx((100 * 5 / 60, 12.5), abs=1e-3)
    assert (first["width"], first["height"]) == pytest.approx((100 * 25 / 60, 37.5), abs=1e-3)
    assert second["rectanglelabels"] == ["sea gull"]
    assert task["predictions"][0]["score"] == pytest.approx((0.75 + 0.125) / 2)
    assert re.search("tiny", task["predictions"][0]["model_version"])


def test_two_images_that_would_share_an_annotation_file_are_refused() -> None:
    check_distinct(["a.jpg", "more/a.jpg", "b.jpg"])
    with pytest.raises(DataError, match=r"got more/a\.jpg and more/a\.png"):
        check_distinct(["more/a.jpg", "a.png", "more/a.png"])
    run = compose(Predict, ["images=[x]", "prompt=detect boat", "model=tiny", "save=[voc]"])
    assert isinstance(run, Predict)
    with pytest.raises(DataError, match="different names without their extensions"):
        run.check_formats(Detection(classes=["boat"]), ["a.jpg", "a.png"])
    run.save = [AnnotationFormat.coco]
    run.check_formats(Detection(classes=["boat"]), ["a.jpg", "a.png"])


def test_a_label_that_xml_cannot_hold_is_escaped(tmp_path: Path) -> None:
    written = write(tmp_path, AnnotationFormat.label_studio, (Instance("a\x00b", (0, 0, 9, 9)),))
    labels = ET.parse(written / "config.xml").findall(".//Label")
    assert {label.get("value") for label in labels} >= {"a\\u0000b"}
