"""CSV: records by line, boxes by line, and a sentence for a header that is none."""

from pathlib import Path

import pytest
from PIL import Image

from palitune.data.sources.columns.csv_file import Csv
from palitune.errors import DataError
from palitune.records import Instance, Row

BOXES = "filename,width,height,class,xmin,ymin,xmax,ymax\n"


def rows_of(folder: Path, text: str) -> list[Row | DataError]:
    for name in ("a", "b"):
        Image.new("RGB", (40, 30)).save(folder / f"{name}.png")
    (folder / "train.csv").write_text(text)
    return list(Csv(path=str(folder)).rows("train"))


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_line_is_a_record(tmp_path: Path, delimiter: str) -> None:
    lines = [["image", "prefix", "suffix"], ["a.png", '"what, please?"', "3"]]
    [row] = rows_of(tmp_path, "\n".join(delimiter.join(line) for line in lines))
    assert isinstance(row, Row)
    assert (row.prefix, row.suffix) == ("what, please?", "3")
    assert row.location == f"{tmp_path}/train.csv:2"


def test_lines_of_boxes_are_gathered_by_image(tmp_path: Path) -> None:
    lines = "a.png,40,30,boat,1,2,11,22\nb.png,40,30,,,,,\na.png,40,30,buoy,5,6,7,8\n"
    first, second = rows_of(tmp_path, BOXES + lines)
    assert isinstance(first, Row)
    assert first.instances == (Instance("boat", (1, 2, 11, 22)), Instance("buoy", (5, 6, 7, 8)))
    assert isinstance(second, Row)
    assert second.instances == ()


def test_a_bad_box_and_a_missing_header_are_sentences(tmp_path: Path) -> None:
    [bad] = rows_of(tmp_path, BOXES + "a.png,40,30,boat,1,2,x,22\n")
    assert str(bad).startswith(f"{tmp_path}/train.csv:2: box must be four numbers, got ['1', '2'")
    with pytest.raises(DataError, match="the first line must be a header of different columns"):
        rows_of(tmp_path, "")


def test_a_quoted_cell_keeps_its_line_breaks_and_places_stay_right(tmp_path: Path) -> None:
    text = 'image,text\r\na.png,"first\nsecond"\r\n\r\nb.png,third\r\n'
    first, second = rows_of(tmp_path, text)
    assert isinstance(first, Row)
    assert isinstance(second, Row)
    assert (first.text, first.location) == ("first\nsecond", f"{tmp_path}/train.csv:2")
    assert (second.text, second.location) == ("third", f"{tmp_path}/train.csv:5")


def test_a_long_cell_is_read(tmp_path: Path) -> None:
    [row] = rows_of(tmp_path, f"image,text\na.png,{'x' * 200_000}\n")
    assert isinstance(row, Row)
    assert row.text == "x" * 200_000


def test_cells_beyond_the_header_are_no_record(tmp_path: Path) -> None:
    bad, good = rows_of(tmp_path, "image,text\na.png,one, two\nb.png,three,\n")
    assert str(bad).startswith(f"{tmp_path}/train.csv:2: line must have at most 2 cells, as")
    assert isinstance(good, Row)
