"""CVAT for images: shapes, tags and subsets of an XML file; others are a sentence."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from palitune.data.sources.labelling import cvat
from palitune.data.sources.labelling.cvat import Cvat
from palitune.errors import DataError
from palitune.records import Instance, Row

BOX = '<box label="boat" occluded="0" xtl="10.0" ytl="12.0" xbr="30.0" ybr="18.0" z_order="0"/>'
LABELS = "<meta><task><labels><label><name>buoy</name></label><label><name>boat</name></label>"
LABELS += "</labels></task></meta>"


def rows_of(folder: Path, shapes: str, split: str = "train", **settings: Any) -> Any:
    (folder / "images").mkdir(exist_ok=True)
    for name in ("a", "b"):
        Image.new("RGB", (40, 30)).save(folder / "images" / f"{name}.png")
    (folder / "annotations.xml").write_text(
        f'<?xml version="1.0"?><annotations><version>1.1</version>{LABELS}'
        f'<image id="0" name="a.png" subset="Train" width="40" height="30">{shapes}</image>'
        '<image id="1" name="b.png" subset="Validation" width="40" height="30"/></annotations>'
    )
    [row] = Cvat(path=str(folder), **settings).rows(split)
    return row


def test_shapes_come_back_as_they_were_drawn(tmp_path: Path) -> None:
    mask = np.zeros((30, 40), bool)
    mask[12:18, 10:30] = True
    lower = mask.copy()
    lower[12] = False
    polygon = '<polygon label="buoy" points="10.0,12.0;30.0,12.0;30.0,18.0;10.0,18.0"/>'
    runs = '<mask label="boat" rle="20, 100" left="10" top="12" width="20" height="6"/>'
    row = rows_of(tmp_path, BOX + polygon + runs + '<tag label="calm"/>', masks=True)
    assert row == Row(
        id="a",
        images=(str(tmp_path / "images/a.png"),),
        size=(40, 30),
        location=f"{tmp_path}/annotations.xml, image id 0",
        answers=("calm",),
        instances=(
            Instance("boat", (10, 12, 30, 18)),
            Instance("buoy", (10, 12, 30, 18), mask),
            Instance("boat", (10, 13, 30, 18), lower),
        ),
        classes=("buoy", "boat"),
    )


def test_a_subset_is_a_split(tmp_path: Path) -> None:
    row = rows_of(tmp_path, BOX, split="val")
    assert (row.id, row.instances) == ("b", ())
    assert Cvat(path=str(tmp_path)).available_splits() == ["train", "validation"]


@pytest.mark.parametrize(
    ("shapes", "why"),
    [
        (BOX.replace("/>", ' rotation="30.0"/>'), "rotation must be 0, got 30.0 degrees"),
        (BOX.replace("30.0", "90.0"), "box must lie inside the image (40x30 px), got x1=90"),
        (BOX.replace('"10.0"', '"left"'), "xtl, ytl, xbr, ybr must be numbers"),
        ('<polyline label="boat" points="1,1;2,2"/>', "shape must be a box, polygon, ellipse or"),
        (
            '<mask label="boat" rle="3" left="0" top="0" width="2" height="2"/>',
            "mask must be run lengths that fill 2x2 px inside the image, got '3'",
        ),
        ('<polygon label="boat" points="1,1;2"/>', "polygon must be a flat list"),
    ],
)
def test_what_cannot_be_read_is_a_sentence_with_its_place(
    tmp_path: Path, shapes: str, why: str
) -> None:
    row = rows_of(tmp_path, shapes)
    assert isinstance(row, DataError)
    assert str(row).startswith(f"{tmp_path}/annotations.xml, image id 0, shape 1: {why}")


def test_a_video_and_a_document_type_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "annotations.xml"
    file.write_text("<annotations><track id='0' label='boat'/></annotations>")
    with pytest.raises(DataError, match="got tracks of a video"):
        list(Cvat(path=str(tmp_path), splits={"train": str(file)}).rows("train"))
    file.write_text("<!DOCTYPE a [<!ENTITY b 'c'>]><annotations>&b;</annotations>")
    with pytest.raises(DataError, match="without a document type"):
        list(Cvat(path=str(tmp_path), splits={"train": str(file)}).rows("train"))


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        (BOX.replace('z_order="0"', 'rotation="north"'), "rotation must be numbers, got ['north']"),
        (BOX.replace("10.0", "nan"), "xtl, ytl, xbr, ybr must be numbers, got ['nan'"),
        (
            '<mask label="boat" rle="1" left="inf" top="0" width="1" height="1"/>',
            "left, top, width, height must be numbers, got ['inf'",
        ),
        (
            '<mask label="boat" rle="0, 4" left="39" top="29" width="2" height="2"/>',
            "mask must lie inside the image (40x30 px), got 2x2 px at (39, 29)",
        ),
    ],
)
def test_numbers_that_are_none_are_sentences(shape: str, said: str, tmp_path: Path) -> None:
    bad = rows_of(tmp_path, shape, masks=True)
    assert isinstance(bad, DataError)
    assert said in str(bad)


def test_a_file_is_parsed_once_for_all_questions_about_splits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows_of(tmp_path, BOX)
    parsed: list[Path] = []
    plain = cvat._parse
    monkeypatch.setattr(cvat, "_parse", lambda file: (parsed.append(file), plain(file))[1])
    (tmp_path / "annotations.xml").touch()
    source = Cvat(path=str(tmp_path))
    for _ in range(3):
        assert source.available_splits() == ["train", "validation"]
    assert len(parsed) == 1
