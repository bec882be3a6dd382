"""YOLO: image folders and lists, and an error for every kind of invalid line."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from palitune.data.sources.yolo import Yolo
from palitune.errors import DataError
from palitune.records import Instance, Row

BOX_DESCRIPTION = "[center x, center y, width, height] in fractions of the image"
BOAT = "0 0.5 0.5 0.5 0.2"
BOAT_BOX = (10, 12, 30, 18)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`images/train/a.png` of 40 x 30 px with one box; `b.png` without labels."""
    for name in ("images/train", "labels/train"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("a.png", "b.png"):
        Image.new("RGB", (40, 30)).save(tmp_path / "images/train" / name)
    (tmp_path / "labels/train/a.txt").write_text(BOAT)
    (tmp_path / "data.yaml").write_text("names: [boat, buoy]\ntrain: images/train\n")
    return tmp_path


def rows_of(folder: Path, labels: str | bytes = BOAT, **settings: Any) -> list[Row | DataError]:
    content = labels if isinstance(labels, bytes) else labels.encode()
    (folder / "labels/train/a.txt").write_bytes(content)
    return list(Yolo(path=str(folder), **settings).rows("train"))


def test_a_row_is_read_in_full_and_an_image_without_labels_has_no_objects(folder: Path) -> None:
    first, second = rows_of(folder)
    assert first == Row(
        id="a",
        images=(str(folder / "images/train/a.png"),),
        size=(40, 30),
        location=str(folder / "labels/train/a.txt"),
        instances=(Instance("boat", BOAT_BOX),),
        classes=("boat", "buoy"),
    )
    assert isinstance(second, Row)
    assert second.instances == ()


def test_a_polygon_is_a_box_and_with_masks_a_mask(folder: Path) -> None:
    polygon = "1 0.25 0.4 0.75 0.4 0.75 0.6 0.25 0.6"
    [row, _] = rows_of(folder, polygon)
    assert isinstance(row, Row)
    assert row.instances == (Instance("buoy", BOAT_BOX),)
    mask = np.zeros((30, 40), bool)
    mask[12:18, 10:30] = True
    [row, _] = rows_of(folder, f"{polygon}\n{BOAT}\n", masks=True)
    assert isinstance(row, Row)
    assert row.instances == (Instance("buoy", BOAT_BOX, mask), Instance("boat", BOAT_BOX))


@pytest.mark.parametrize(
    "description",
    [
        "names: {0: boat, 1: buoy}\ntrain: images/train",
        "names: [boat, buoy]\ntrain: [images/train]",
        "names: [boat, buoy]\ntrain: train.txt",
        "names: [boat, buoy]\npath: images\ntrain: train",
        "names: [boat, buoy]\npath: /elsewhere\ntrain: images/train",
        "names: [boat, buoy]\ntrain: ../images/train",
        "names: [boat, buoy]\ntrain: ./images/train",
    ],
)
def test_images_are_found_however_data_yaml_names_them(folder: Path, description: str) -> None:
    (folder / "data.yaml").write_text(description)
    (folder / "train.txt").write_text("./images/train/a.png\n./images/train/b.png\n\n")
    rows = rows_of(folder)
    assert [row.id for row in rows if isinstance(row, Row)] == ["a", "b"]
    assert Yolo(path=str(folder / "data.yaml")).available_splits() == ["train"]


def test_a_split_may_be_set_in_the_settings(folder: Path) -> None:
    source = Yolo(path=str(folder), splits={"test": "images/train"})
    assert source.available_splits() == ["test", "train"]
    assert [row.id for row in source.rows("test") if isinstance(row, Row)] == ["a", "b"]
    divided = Yolo(path=str(folder), validation_fraction=0.5)
    assert len([*divided.rows("train"), *divided.rows("validation")]) == 2


def test_a_changed_label_file_is_a_changed_data_set(folder: Path) -> None:
    files = set(Yolo(path=str(folder)).files("train"))
    assert {folder / "data.yaml", folder / "labels/train/a.txt", folder / "images/train"} <= files


LINE = "line must be 'class x y width height', or 'class x y x y x y ...' for a polygon"
COORDINATES = "coordinates must be 4 numbers for a box or at least 6, in pairs, for a polygon"
INSIDE = "box must lie inside the image (40x30 px)"


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        ("2 0.5 0.5 0.5 0.2", "class must be one of the 2 in {}/data.yaml, got 2. Correct it"),
        ("boat 0.5 0.5 0.5 0.2", f"{LINE}, got 'boat 0.5 0.5 0.5 0.2'."),
        ("0.5 0.5 0.5 0.2 1", f"{LINE}, got '0.5 0.5 0.5 0.2 1'."),
        ("0 0.5 0.5 0.5", f"{COORDINATES}, got 3."),
        ("0 0.5 0.5 0.5 0.2 0.9", f"{COORDINATES}, got 5."),
        ("0 20 15 20 6", "box must be in fractions, got [20.0, 15.0, 20.0, 6.0]. Boxes are ["),
        ("0 0.9 0.5 0.5 0.2", f"{INSIDE}, got x1=46. Boxes are {BOX_DESCRIPTION}."),
        ("0 0.5 0.5 0 0.2", "box must have an area, got [20.0, 12.0, 20.0, 18.0]. Boxes are ["),
        ("0 0.5 nan 0.5 0.2", "box must be four numbers, got [0.5, nan, 0.5, 0.2]."),
        ("0 0.1 0.1 0.5 0.1 0.5 1.5", f"{INSIDE}, got y1=45."),
    ],
)  # fmt: skip
def test_an_invalid_line_is_an_error_with_its_location(folder: Path, labels: str, why: str) -> None:
    bad, _ = rows_of(folder, f"{BOAT}\n\n{labels}")
    location = f"{folder}/labels/train/a.txt:3: "
    assert isinstance(bad, DataError)
    assert str(bad).startswith(location + why.replace("{}", str(folder)))


def test_another_encoding_is_an_error_with_its_line(folder: Path) -> None:
    bad, _ = rows_of(folder, BOAT.encode() + b"\n\xe9\n")
    assert str(bad) == (
        f"{folder}/labels/train/a.txt:2: text must be UTF-8 (invalid continuation byte). Save the "
        "file as UTF-8."
    )


@pytest.mark.parametrize(
    ("description", "why"),
    [
        ("names: [boat", "data.yaml: file must be YAML ("),
        ("- boat", "data.yaml: file must describe a YOLO data set, got ['boat']"),
        ("train: images/train", "data.yaml: names must be a list of classes, got None. Write"),
        (
            "train: images/train\nnames: [[boat]]",
            "data.yaml: names must map class numbers to names, got 0: ['boat']",
        ),
        (
            "names: [boat]\ntrain: 3",
            "data.yaml: train must be a folder or a text file of images, got 3",
        ),
        (
            "names: [boat]\ntrain: pictures",
            "data.yaml: train must be a path next to the file, got 'pictures', which does",
        ),
    ],
)
def test_an_invalid_description_is_an_error(folder: Path, description: str, why: str) -> None:
    (folder / "data.yaml").write_text(description)
    with pytest.raises(DataError) as caught:
        rows_of(folder)
    assert str(caught.value).startswith(f"{folder}/{why}")
    assert "\n" not in str(caught.value)


def test_missing_label_files_are_an_error(folder: Path) -> None:
    (folder / "labels").rename(folder / "texts")
    with pytest.raises(DataError) as caught:
        list(Yolo(path=str(folder)).rows("train"))
    assert str(caught.value) == (
        f"{folder}/data.yaml: images of split 'train' must have label files such as "
        f"{folder}/labels/train/a.txt, got none. Move the label files there."
    )


def test_the_error_of_a_missing_split_lists_the_splits(folder: Path) -> None:
    with pytest.raises(DataError, match=r"no split 'test' .*splits: train"):
        list(Yolo(path=str(folder)).rows("test"))


def test_a_path_with_a_name_that_is_too_long_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_text(f"names: [boat]\ntrain: {'x' * 300}\n")
    with pytest.raises(DataError, match=r"data\.yaml: train must be a path .* does not exist"):
        list(Yolo(path=str(tmp_path)).rows("train"))
