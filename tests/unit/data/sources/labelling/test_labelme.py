"""LabelMe: the shapes of a file come back as they were drawn; others are a sentence."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from palitune.data.sources.labelling import labelme
from palitune.data.sources.labelling.labelme import LabelMe
from palitune.errors import DataError
from palitune.records import Instance, Row

Shape = dict[str, Any]


def png(pixels: Any) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def shape(kind: str, points: Any, label: str = "boat", **more: Any) -> Shape:
    return {"label": label, "points": points, "group_id": None, "shape_type": kind, **more}


RECTANGLE = shape("rectangle", [[30, 18], [10, 12]])
POLYGON = shape("polygon", [[10, 12], [30, 12], [30, 18], [10, 18]], "buoy")


def rows_of(folder: Path, *shapes: Shape, masks: bool = True, **more: Any) -> Any:
    (folder / "train").mkdir(exist_ok=True)
    if "imageData" not in more:
        Image.new("RGB", (40, 30)).save(folder / "train" / "a.png")
    content = {"version": "5.4.1", "flags": {}, "shapes": list(shapes), "imagePath": "..\\x\\a.png",
               "imageData": None, "imageHeight": 30, "imageWidth": 40, **more}  # fmt: skip
    (folder / "train" / "a.json").write_text(json.dumps(content))
    [row] = LabelMe(path=str(folder), masks=masks).rows("train")
    return row


def test_shapes_come_back_as_they_were_drawn(tmp_path: Path) -> None:
    stored = np.full((6, 20), 255, np.uint8)
    stored[0] = 0
    drawn = shape("mask", [[10, 12], [29, 17]], mask=png(stored))
    mask = np.zeros((30, 40), bool)
    mask[12:18, 10:30] = True
    lower = mask.copy()
    lower[12] = False
    assert rows_of(tmp_path, RECTANGLE, POLYGON, drawn) == Row(
        id="a",
        images=(str(tmp_path / "train/a.png"),),
        size=(40, 30),
        location=str(tmp_path / "train/a.json"),
        instances=(
            Instance("boat", (10, 12, 30, 18)),
            Instance("buoy", (10, 12, 30, 18), mask),
            Instance("boat", (10, 13, 30, 18), lower),
        ),
        classes=("boat", "buoy"),
    )


def test_shapes_of_one_group_are_one_object_and_a_circle_is_its_box(tmp_path: Path) -> None:
    parts = [
        shape("polygon", [[x, 0], [x + 4, 0], [x + 4, 4], [x, 4]], group_id=1) for x in (0, 20)
    ]
    row = rows_of(tmp_path, *parts, shape("circle", [[20, 15], [20, 20]]))
    assert [instance.box for instance in row.instances] == [(0, 0, 24, 4), (15, 10, 25, 20)]
    assert row.instances[0].mask.sum() == 32


def test_a_flag_is_the_answer_and_an_image_may_lie_in_the_file(tmp_path: Path) -> None:
    image = png(np.zeros((30, 40, 3), np.uint8))
    row = rows_of(tmp_path, flags={"cat": True, "dog": False}, imageData=image)
    assert row.answers == ("cat",)
    assert row.size == (40, 30)


def test_a_folder_with_files_itself_is_the_split_train(tmp_path: Path) -> None:
    rows_of(tmp_path, RECTANGLE)
    [row] = LabelMe(path=str(tmp_path / "train")).rows("train")
    assert isinstance(row, Row)
    assert row.instances == (Instance("boat", (10, 12, 30, 18)),)


@pytest.mark.parametrize(
    ("drawn", "why"),
    [
        (shape("oriented_rectangle", [[1, 1], [5, 2], [4, 6], [0, 5]]), "shape_type must be"),
        (shape("line", [[1, 1], [5, 2]]), "shape_type must be rectangle, polygon, circle or mask"),
        (shape("rectangle", [[1, 1], [50, 2]]), "box must lie inside the image (40x30 px)"),
        (shape("rectangle", [[1, "1"], [5, 2]]), "points must be a list of [x, y] in pixels"),
        (shape("mask", [[1, 1], [5, 2]], mask="no"), "mask must be a base64 PNG"),
        (
            shape("mask", [[39, 1], [44, 2]], mask=png(np.full((2, 5), 255, np.uint8))),
            "mask must lie inside the image (40x30 px), got 5x2 px at (39, 1)",
        ),
        ({"points": [[1, 1]]}, "shape must have a label"),
    ],
)
def test_what_cannot_be_read_is_a_sentence_with_its_place(
    tmp_path: Path, drawn: Shape, why: str
) -> None:
    row = rows_of(tmp_path, RECTANGLE, drawn)
    assert isinstance(row, DataError)
    assert str(row).startswith(f"{tmp_path}/train/a.json, shape 2: {why}")


@pytest.mark.parametrize("flags", [["calm"], "calm", 5])
def test_flags_in_another_notation_are_ignored(flags: Any, tmp_path: Path) -> None:
    row = rows_of(tmp_path, RECTANGLE, flags=flags)
    assert isinstance(row, Row)
    assert row.answers is None


def test_a_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows_of(tmp_path, RECTANGLE)
    read: list[Path] = []
    plain = labelme._load
    monkeypatch.setattr(labelme, "_load", lambda file: (read.append(file), plain(file))[1])
    [row] = LabelMe(path=str(tmp_path)).rows("train")
    assert isinstance(row, Row)
    assert len(read) == 1
