"""Pascal VOC: difficult objects, one-based pixels, and untrusted XML."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from palitune.data.sources.voc import DifficultObjects, Voc
from palitune.errors import DataError
from palitune.records import Instance, Row

BOX_DESCRIPTION = "xmin, ymin, xmax, ymax in pixels"
BOX = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>11</xmax><ymax>22</ymax></bndbox>"
BOAT = f"<object><name>boat</name>{BOX}</object>"
HARD = f"<object><name>buoy</name><difficult>1</difficult>{BOX}</object>"
SIZE = "<size><width>40</width><height>30</height></size>"


def xml(objects: str, size: str = SIZE, name: str = "a.png") -> str:
    return f"<annotation><filename>{name}</filename>{size}{objects}</annotation>"


def rows_of(folder: Path, content: str | bytes, **settings: Any) -> list[Row | DataError]:
    (folder / "train").mkdir(exist_ok=True)
    Image.new("RGB", (40, 30)).save(folder / "train/a.png")
    written = content if isinstance(content, bytes) else content.encode()
    (folder / "train/a.xml").write_bytes(written)
    return list(Voc(path=str(folder), **settings).rows("train"))


def row_of(folder: Path, content: str | bytes, **settings: Any) -> Row:
    [row] = rows_of(folder, content, **settings)
    assert isinstance(row, Row), row
    return row


def test_a_row_is_read_in_full(tmp_path: Path) -> None:
    assert row_of(tmp_path, xml(BOAT)) == Row(
        id="a",
        images=(str(tmp_path / "train/a.png"),),
        size=(40, 30),
        location=f"{tmp_path}/train/a.xml",
        instances=(Instance("boat", (1, 2, 11, 22)),),
        classes=("boat",),
    )


def test_one_based_pixels_move_the_top_left_corner(tmp_path: Path) -> None:
    row = row_of(tmp_path, xml(BOAT), one_based=True)
    assert row.instances == (Instance("boat", (0, 1, 11, 22)),)


@pytest.mark.parametrize(
    ("difficult", "instances"),
    [
        (DifficultObjects.ignore, (Instance("buoy", (1, 2, 11, 22), crowd=True),)),
        (DifficultObjects.keep, (Instance("buoy", (1, 2, 11, 22)),)),
        (DifficultObjects.drop, ()),
    ],
)
def test_difficult_objects_are_ignored_kept_or_dropped(
    tmp_path: Path, difficult: DifficultObjects, instances: tuple[Instance, ...]
) -> None:
    assert row_of(tmp_path, xml(HARD), difficult=difficult).instances == instances


@pytest.mark.parametrize(
    "name",
    ["a.png", "C:\\pictures\\a.png", "other.jpg", ""],
    ids=["same", "windows", "other", "no"],
)
def test_the_image_is_found_by_either_name(tmp_path: Path, name: str) -> None:
    assert row_of(tmp_path, xml(BOAT, name=name)).images == (f"{tmp_path}/train/a.png",)


def test_a_size_of_zero_is_no_size(tmp_path: Path) -> None:
    zero = "<size><width>0</width><height>0</height></size>"
    assert row_of(tmp_path, xml(BOAT, size=zero)).size == (40, 30)
    assert row_of(tmp_path, xml(BOAT, size="")).size == (40, 30)


def test_another_encoding_that_the_file_declares_is_read(tmp_path: Path) -> None:
    content = '<?xml version="1.0" encoding="latin-1"?>' + xml(BOAT.replace("boat", "bouée"))
    [instance] = row_of(tmp_path, content.encode("latin-1")).instances or ()
    assert instance.label == "bouée"


LAUGHS = (
    '<!DOCTYPE annotation [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]>'
    "<annotation><filename>&b;</filename></annotation>"
)
OUTSIDE = (
    '<!DOCTYPE annotation [<!ENTITY a SYSTEM "file:///etc/hostname">]>'
    "<annotation><filename>&a;</filename></annotation>"
)
NO_DOCTYPE = ": file must be XML without a document type (got a document type). Export it again."


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (LAUGHS, NO_DOCTYPE),
        (OUTSIDE, NO_DOCTYPE),
        ('<!DOCTYPE annotation SYSTEM "http://a.b/c.dtd"><annotation/>', NO_DOCTYPE),
        ("<annotation>", ": file must be XML without a document type (no element found"),
        (
            xml(BOAT.replace("boat", "bouée")).encode("latin-1"),
            ": file must be XML without a document type (",
        ),
        ("<svg/>", ": root element must be <annotation>, got <svg>. Use Pascal VOC files."),
        (
            xml(BOAT, size=SIZE.replace("40", "30")),
            ": size must be 40x30 px, as {}/train/a.png has, got 30x30. Export the",
        ),
        (xml(f"<object>{BOX}</object>"), ", object 1: object must have a name, got none."),
        (
            xml(BOAT + BOAT.replace("11", "ten")),
            ", object 2: box must be four numbers, got ['1', '2', 'ten', '22']. Boxes are "
            f"{BOX_DESCRIPTION}.",
        ),
        (
            xml("<object><name>boat</name></object>"),
            ", object 1: box must be four numbers, got ['', '', '', '']. Boxes are "
            f"{BOX_DESCRIPTION}.",
        ),
        (
            xml(BOAT.replace("11", "nan")),
            ", object 1: box must lie inside the image (40x30 px), got x1=nan. Boxes are "
            f"{BOX_DESCRIPTION}.",
        ),
        (
            xml(BOAT.replace("<xmin>1<", "<xmin>12<")),
            ", object 1: box must have an area, got [12.0, 2.0, 11.0, 22.0]. Boxes are "
            f"{BOX_DESCRIPTION}.",
        ),
    ],
)
def test_an_invalid_file_is_an_error_with_its_location(
    tmp_path: Path, content: str | bytes, why: str
) -> None:
    [bad] = rows_of(tmp_path, content)
    assert isinstance(bad, DataError)
    assert str(bad).startswith(f"{tmp_path}/train/a.xml" + why.replace("{}", str(tmp_path)))
    assert "\n" not in str(bad)


def test_the_error_of_a_missing_image_lists_the_folders(tmp_path: Path) -> None:
    rows_of(tmp_path, xml(BOAT))
    (tmp_path / "train/a.png").unlink()
    [bad] = Voc(path=str(tmp_path)).rows("train")
    assert str(bad) == (
        f"{tmp_path}/train/a.xml: image 'a.png' must be next to the file, in JPEGImages or in "
        "images, got none. Set data.images=FOLDER."
    )


def test_a_listed_file_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "train.txt").write_text("a\n")
    [bad] = Voc(path=str(tmp_path)).rows("train")
    assert str(bad) == (
        f"{tmp_path}/Annotations/a.xml does not exist. Add the file, or remove it from the list of "
        "its split."
    )
