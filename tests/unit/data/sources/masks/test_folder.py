"""Masks as images: the numbers of objects, and the image of each mask."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from palitune.data.sources.base import Source
from palitune.data.sources.masks.instance import InstanceMasks, MaskLayout
from palitune.data.sources.masks.semantic import InstanceDefinition, SemanticMasks
from palitune.errors import DataError
from palitune.records import Instance, Row

SIZE = (8, 6)


def write(folder: Path, numbers: Any, name: str = "masks/train/a.png") -> None:
    (folder / "images/train").mkdir(parents=True, exist_ok=True)
    Image.new("RGB", SIZE).save(folder / "images/train/a.jpg")
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(numbers).save(file)


def numbered(*objects: tuple[int, int, int], kind: Any = np.uint8) -> Any:
    """A mask image with a column of pixels for each (x, y of its top, number)."""
    numbers = np.zeros((SIZE[1], SIZE[0]), kind)
    for x, y, number in objects:
        numbers[y:, x] = number
    return numbers


def instances(source: Source) -> tuple[Instance, ...]:
    [row] = source.rows("train")
    assert isinstance(row, Row), row
    return row.instances or ()


def error(source: Source) -> str:
    [row] = source.rows("train")
    assert isinstance(row, DataError)
    assert "\n" not in str(row)
    return str(row)


def test_ignored_numbers_and_those_below_the_first_class_are_skipped(tmp_path: Path) -> None:
    write(tmp_path, numbered((1, 0, 1), (3, 2, 2), (5, 4, 255)))
    found = instances(SemanticMasks(path=str(tmp_path), classes=["sea", "boat"], first_class_id=1))
    assert found == (Instance("sea", (1, 0, 2, 6)), Instance("boat", (3, 2, 4, 6)))
    found = instances(SemanticMasks(path=str(tmp_path), classes=["none", "sea"], ignore=[2, 255]))
    assert [i.label for i in found] == ["none", "sea"]


def test_a_class_is_one_instance_or_one_per_component(tmp_path: Path) -> None:
    write(tmp_path, numbered((1, 0, 1), (3, 2, 1)))
    settings: dict[str, Any] = {"path": str(tmp_path), "classes": ["boat"], "first_class_id": 1}
    whole = instances(SemanticMasks(**settings, masks=True))
    assert [i.box for i in whole] == [(1, 0, 4, 6)]
    assert whole[0].mask is not None
    assert int(whole[0].mask.sum()) == 10
    parts = instances(
        SemanticMasks(**settings, instances=InstanceDefinition.components, masks=True)
    )
    assert [i.box for i in parts] == [(1, 0, 2, 6), (3, 2, 4, 6)]
    assert [int(i.mask.sum()) for i in parts if i.mask is not None] == [6, 4]


def test_a_palette_image_contains_numbers_not_colors(tmp_path: Path) -> None:
    write(tmp_path, numbered((1, 0, 1)))
    image = Image.open(tmp_path / "masks/train/a.png")
    image.putpalette([0, 0, 0, 250, 10, 10])
    assert image.mode == "P"
    image.save(tmp_path / "masks/train/a.png")
    found = instances(SemanticMasks(path=str(tmp_path), classes=["boat"], first_class_id=1))
    assert found == (Instance("boat", (1, 0, 2, 6)),)


def test_object_numbers_of_sixteen_bits_give_their_class(tmp_path: Path) -> None:
    write(tmp_path, numbered((0, 0, 7), (1, 0, 1001), (3, 2, 1002), (5, 0, 2000), kind=np.uint16))
    source = InstanceMasks(path=str(tmp_path), classes=["sea", "boat", "buoy"], divisor=1000)
    assert instances(source) == (
        Instance("boat", (1, 0, 2, 6)),
        Instance("boat", (3, 2, 4, 6)),
        Instance("buoy", (5, 0, 6, 6)),
    )


def test_objects_of_one_class_need_no_divisor(tmp_path: Path) -> None:
    write(tmp_path, numbered((1, 0, 1), (3, 2, 9)))
    found = instances(InstanceMasks(path=str(tmp_path), classes=["cell"]))
    assert found == (Instance("cell", (1, 0, 2, 6)), Instance("cell", (3, 2, 4, 6)))


def test_files_of_single_objects_name_their_class_unless_there_is_one(tmp_path: Path) -> None:
    for name in ("red_boat_1", "buoy_17"):
        write(tmp_path, numbered((1, 0, 255)), f"masks/train/a/{name}.png")
    settings: dict[str, Any] = {"path": str(tmp_path), "layout": MaskLayout.files}
    found = instances(InstanceMasks(**settings, classes=["red_boat", "buoy"]))
    assert [i.label for i in found] == ["buoy", "red_boat"]
    assert {i.label for i in instances(InstanceMasks(**settings, classes=["cell"]))} == {"cell"}
    assert error(InstanceMasks(**settings, classes=["boat", "buoy"])) == (
        f"{tmp_path}/masks/train/a/red_boat_1.png: class (the name up to the last '_') must be one "
        "of boat, buoy, got 'red_boat'. Rename the file, or add the class to data.classes."
    )


def test_an_image_without_files_has_no_objects_and_one_without_mask_is_skipped(
    tmp_path: Path,
) -> None:
    write(tmp_path, numbered((1, 0, 255)), "masks/train/a/1.png")
    Image.new("RGB", SIZE).save(tmp_path / "images/train/b.jpg")
    rows = InstanceMasks(path=str(tmp_path), classes=["cell"], layout=MaskLayout.files).rows(
        "train"
    )
    assert [(r.id, len(r.instances or ())) for r in rows if isinstance(r, Row)] == [
        ("a", 1),
        ("b", 0),
    ]
    (tmp_path / "masks/train/a/1.png").rename(tmp_path / "masks/train/a.png")
    (tmp_path / "masks/train/a").rmdir()
    rows = InstanceMasks(path=str(tmp_path), classes=["cell"]).rows("train")
    assert [row.id for row in rows if isinstance(row, Row)] == ["a"]


def test_a_mask_may_have_a_suffix(tmp_path: Path) -> None:
    write(tmp_path, numbered((1, 0, 1)), "annotations/training/a_seg.png")
    (tmp_path / "images/train").rename(tmp_path / "images/training")
    source = SemanticMasks(
        path=str(tmp_path), classes=["boat"], first_class_id=1, mask_suffix="_seg"
    )
    assert instances(source) == (Instance("boat", (1, 0, 2, 6)),)
    other = SemanticMasks(path=str(tmp_path), classes=["boat"], mask_suffix="_map")
    with pytest.raises(
        DataError, match=r"a_seg\.png: mask name must end in data\.mask_suffix='_map'"
    ):
        list(other.rows("train"))


GRAY = "mask must be a gray or palette image of class or object numbers, got mode RGB"


@pytest.mark.parametrize(
    ("numbers", "why"),
    [
        (
            numbered((1, 0, 3)),
            "class number must be one of the 2 of data.classes, from 1 to 2, got 3.",
        ),
        (
            numbered((1, 0, 3))[:5],
            "mask must have the size 8x6 px of its image, got 8x5 px. Save it",
        ),
        (np.zeros((6, 8, 3), np.uint8), GRAY),
    ],
)
def test_an_invalid_mask_image_is_an_error(tmp_path: Path, numbers: Any, why: str) -> None:
    write(tmp_path, numbers)
    source = SemanticMasks(path=str(tmp_path), classes=["sea", "boat"], first_class_id=1)
    assert error(source).startswith(f"{tmp_path}/masks/train/a.png: {why}")


def test_an_unreadable_mask_or_one_without_image_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, numbered((1, 0, 1)))
    source = SemanticMasks(path=str(tmp_path), classes=["none", "boat"])
    (tmp_path / "masks/train/a.png").write_bytes(b"not an image")
    assert error(source).startswith(f"{tmp_path}/masks/train/a.png: mask cannot be read (")
    (tmp_path / "images/train/a.jpg").rename(tmp_path / "images/train/b.jpg")
    assert error(source) == (
        f"{tmp_path}/masks/train/a.png: mask must have an image 'a', got none. Check data.images "
        "and data.mask_suffix."
    )


def test_the_error_of_a_missing_file_names_its_setting(tmp_path: Path) -> None:
    write(tmp_path, numbered((1, 0, 1)))
    with pytest.raises(DataError, match=r"classes\.txt does not exist\. List the classes in it"):
        list(SemanticMasks(path=str(tmp_path)).rows("train"))
    assert error(InstanceMasks(path=str(tmp_path), classes=["a", "b"])) == (
        f"{tmp_path}/masks/train/a.png: data.divisor must be set for 2 classes, got null. Set it "
        "to the number by which object numbers are divided, e.g. 1000."
    )
    with pytest.raises(DataError, match="must have a folder of masks for each image, got masks in"):
        list(
            InstanceMasks(path=str(tmp_path), classes=["a"], layout=MaskLayout.files).rows("train")
        )
    (tmp_path / "images").rename(tmp_path / "pictures")
    with pytest.raises(DataError, match=r"images must be in .*, got no such folder\. Set data\.im"):
        list(SemanticMasks(path=str(tmp_path), classes=["a"]).rows("train"))
    chosen = SemanticMasks(
        path=str(tmp_path), classes=["a"], first_class_id=1, images="pictures/{split}"
    )
    assert len(instances(chosen)) == 1
    with pytest.raises(ValueError, match=r"data\.divisor must be at least 2, got 1"):
        InstanceMasks(path="", divisor=1)


def test_mask_images_belong_to_the_files_of_a_split(tmp_path: Path) -> None:
    write(tmp_path, numbered((1, 0, 1)))
    (tmp_path / "classes.txt").write_text("boat\n")
    files = set(SemanticMasks(path=str(tmp_path)).files("train"))
    assert {tmp_path / "classes.txt", tmp_path / "masks/train/a.png"} <= files
