"""Label Studio: objects, choices and texts of an export, and a sentence for what is not read."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from palitune.data.sources.labelling.brush_rle import decode_brush
from palitune.data.sources.labelling.label_studio import LabelStudio
from palitune.errors import DataError, LeftOut
from palitune.records import Instance, Row

Region = dict[str, Any]
BRUSH = [0, 0, 0, 140, 57, 27, 254, 35, 0, 183, 255, 124, 2, 255, 253, 176, 11, 127, 248, 140, 0]
"""Written by `label_studio_sdk.converter.brush.mask2rle` for `BRUSH_MASK`."""
BRUSH_MASK = np.zeros((5, 7), bool)
BRUSH_MASK[1:4, 2:5] = True
BRUSH_MASK[2, 5] = True


def region(kind: str, value: Region, key: str = "r1", **more: Any) -> Region:
    fields = {"original_width": 40, "original_height": 30, "image_rotation": 0, "from_name": "x"}
    return {"id": key, "type": kind, "to_name": "image", "value": value, **fields, **more}


def rectangle(x: float = 25, y: float = 40, width: float = 50, height: float = 20) -> Region:
    value = {"x": x, "y": y, "width": width, "height": height, "rotation": 0}
    return region("rectanglelabels", {**value, "rectanglelabels": ["boat"]})


def task(*results: Region, **more: Any) -> Region:
    annotations = [{"id": 1, "was_cancelled": False, "result": list(results)}]
    return {"id": 17, "data": {"image": "/data/upload/3/1a2b3c4d-a.png"},
            "annotations": annotations, **more}  # fmt: skip


def rows_of(folder: Path, *tasks: Region, **settings: Any) -> list[Row | DataError]:
    Image.new("RGB", (40, 30)).save(folder / "a.png")
    (folder / "train.json").write_text(json.dumps(tasks))
    return list(LabelStudio(path=str(folder), **settings).rows("train"))


def row_of(folder: Path, *tasks: Region, **settings: Any) -> Row:
    [row] = rows_of(folder, *tasks, **settings)
    assert isinstance(row, Row), row
    return row


def test_objects_come_back_from_percent_as_they_were_drawn(tmp_path: Path) -> None:
    points = [[25, 40], [75, 40], [75, 60], [25, 60]]
    polygon = {"points": points, "polygonlabels": ["buoy"]}
    row = row_of(tmp_path, task(rectangle(), region("polygonlabels", polygon, "r2")), masks=True)
    mask = np.zeros((30, 40), bool)
    mask[12:18, 10:30] = True
    assert row == Row(
        id="17",
        images=(str(tmp_path / "a.png"),),
        size=(40, 30),
        location=f"{tmp_path}/train.json, task 17",
        instances=(Instance("boat", (10, 12, 30, 18)), Instance("buoy", (10, 12, 30, 18), mask)),
        classes=("boat", "buoy"),
    )


def test_an_export_without_any_object_has_images_without_objects(tmp_path: Path) -> None:
    row = row_of(tmp_path, task())
    assert (row.instances, row.classes) == ((), None)


def test_a_brush_stroke_of_the_official_encoder_is_its_mask(tmp_path: Path) -> None:
    assert (decode_brush(BRUSH, (7, 5)) == BRUSH_MASK).all()
    for damaged in (BRUSH[:-4], BRUSH[:3], [0, 0, 0, 141, *BRUSH[4:]], [300, *BRUSH]):
        with pytest.raises(ValueError, match=r"ends within|must hold|range|must have"):
            decode_brush(damaged, (7, 5))
    value = {"format": "rle", "rle": BRUSH, "brushlabels": ["boat"]}
    [bad] = rows_of(tmp_path, task(region("brushlabels", value)))
    assert "region r1: brush stroke must be run lengths of the image's size (it must hold" in str(
        bad
    )


def test_choices_are_answers_and_text_areas_are_texts(tmp_path: Path) -> None:
    choices = region("choices", {"choices": ["boat", "red"]}, "c", from_name="kind")
    text = region("textarea", {"text": ["one", "two"]}, "t", from_name="words")
    row = row_of(tmp_path, task(choices, text))
    assert row.answers == ("boat, red",)
    assert row.text == "one\ntwo"
    assert row.instances is None
    other = region("choices", {"choices": ["day"]}, "d", from_name="light")
    [bad] = rows_of(tmp_path, task(choices, other))
    assert "one control with choices, got kind, light. Set data.control=NAME." in str(bad)
    assert row_of(tmp_path, task(choices, other), control="light").answers == ("day",)


def test_the_text_of_a_region_is_its_label_and_the_text_of_the_image(tmp_path: Path) -> None:
    box = rectangle()["value"]
    del box["rectanglelabels"]
    text = region("textarea", {**box, "text": ["STOP"]}, "r1")
    row = row_of(tmp_path, task(region("rectangle", box, "r1"), text))
    assert row.instances == (Instance("STOP", (10, 12, 30, 18)),)
    assert row.text == "STOP"


def test_ground_truth_is_preferred_and_tasks_without_annotation_are_left_out(
    tmp_path: Path,
) -> None:
    skipped = {"id": 1, "was_cancelled": True, "result": []}
    first = {"id": 2, "result": [rectangle(0, 0, 10, 10)]}
    best = {"id": 3, "ground_truth": True, "result": [rectangle()]}
    unlabelled = {"id": 18, "data": {"image": "a.png"}, "annotations": [], "predictions": []}
    labelled = {**task(), "annotations": [skipped, first, best]}
    left_out, row = rows_of(tmp_path, unlabelled, labelled)
    assert isinstance(left_out, LeftOut)
    assert left_out.reason == "tasks without annotation"
    assert isinstance(row, Row)
    assert row.instances == (Instance("boat", (10, 12, 30, 18)),)


@pytest.mark.parametrize(
    "image",
    ["a.png", "/data/upload/1/a.png", "/data/local-files/?d=shots%2Fa.png", "s3://bucket/x/a.png",
     "https://host/x/a.png?token=1", "C:\\shots\\a.png"],
)  # fmt: skip
def test_an_image_is_found_by_every_link_that_the_program_writes(
    tmp_path: Path, image: str
) -> None:
    row = row_of(tmp_path, task(rectangle(), data={"image": image}))
    assert row.images == (str(tmp_path / "a.png"),)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        (task(rectangle(90, 40, 50, 20)), "region r1: box must lie inside the image (40x30 px)"),
        (
            task(region("rectanglelabels", {**rectangle()["value"], "rotation": 30})),
            "region r1: rotation must be 0, got 30 degrees. Draw an upright rectangle, or a",
        ),
        (
            task(region("videorectangle", {"sequence": []}), data={"video": "a.mp4"}),
            "videorectangle cannot be read. Read are rectangles",
        ),
        (
            task(region("keypointlabels", {"x": 1, "y": 2, "keypointlabels": ["a"]})),
            "keypointlabels cannot be read",
        ),
        (task({**rectangle(), "image_rotation": 90}), "image_rotation must be 0, got 90"),
        (task({**rectangle(), "original_width": 80}), "size must be 40x30 px"),
        (
            task(region("rectangle", {"x": 1, "y": 2, "width": 3, "height": 4})),
            "region must have a label, got none",
        ),
        (task(rectangle(), data={"image": "b.png"}), "image 'b.png' must be in one of the folders"),
        (task(rectangle(), data={"text": "b"}), "data must name an image file"),
        (
            task(region("polygonlabels", {"points": [[1, "2"]], "polygonlabels": ["a"]})),
            "points must be a list of [x, y] in percent",
        ),
    ],
)
def test_what_cannot_be_read_is_a_sentence_with_its_place(
    tmp_path: Path, changed: Region, why: str
) -> None:
    [bad] = rows_of(tmp_path, changed)
    assert isinstance(bad, DataError)
    assert str(bad).startswith(f"{tmp_path}/train.json, task 17")
    assert why in str(bad)


def test_a_min_export_is_refused_as_a_whole(tmp_path: Path) -> None:
    (tmp_path / "train.json").write_text(json.dumps([{"image": "a.png", "label": []}]))
    with pytest.raises(DataError, match=r"Export the project as JSON \(not JSON-MIN\)"):
        list(LabelStudio(path=str(tmp_path)).rows("train"))


@pytest.mark.parametrize("change", [{"id": ["r1"]}, {"id": {"a": 1}}])
def test_an_id_of_any_type_is_only_a_name(change: Region, tmp_path: Path) -> None:
    row = row_of(tmp_path, task(rectangle() | change))
    assert len(row.instances or ()) == 1


def test_a_text_that_is_a_number_is_read_as_text(tmp_path: Path) -> None:
    result = rectangle()
    result["value"] |= {"text": 5}
    assert row_of(tmp_path, task(result)).text == "5"
