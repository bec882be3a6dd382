"""Tables: embedded images, shards, names of numeric categories, and invalid files."""

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from palitune.data.sources.box_formats import BoxFormat
from palitune.data.sources.parquet import Parquet
from palitune.errors import DataError
from palitune.records import Instance, Row


def png(shade: int = 0) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 30), (shade, 0, 0)).save(file, "PNG")
    return file.getvalue()


def write(folder: Path, *rows: dict[str, Any], name: str = "train.parquet") -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.Table.from_pylist(list(rows)), folder / name)


def rows_of(folder: Path, **settings: Any) -> list[Row | DataError]:
    return list(Parquet(path=str(folder), **settings).rows("train"))


def row_of(folder: Path, **settings: Any) -> Row:
    [row] = rows_of(folder, **settings)
    assert isinstance(row, Row), row
    return row


def error_of(folder: Path, **settings: Any) -> str:
    [row] = rows_of(folder, **settings)
    assert isinstance(row, DataError), row
    return str(row).removeprefix(f"{folder}/train.parquet, row 1: ")


def test_images_in_a_table_are_written_once_by_their_content(tmp_path: Path) -> None:
    image = {"bytes": png(), "path": "a.png"}
    write(tmp_path, {"image": image}, {"image": image}, {"image": {"bytes": png(9), "path": None}})
    first, second, third = (row.images for row in rows_of(tmp_path) if isinstance(row, Row))
    assert first == second != third
    assert Path(first[0]).read_bytes() == png()


@pytest.mark.parametrize("image", ["a.png", {"bytes": None, "path": "a.png"}])
def test_images_beside_a_table_are_found(tmp_path: Path, image: Any) -> None:
    (tmp_path / "a.png").write_bytes(png())
    write(tmp_path, {"image": image, "question": "how many?"})
    row = row_of(tmp_path)
    assert (row.images, row.question) == ((str(tmp_path / "a.png"),), "how many?")
    assert (row.id, row.location) == ("train-1", f"{tmp_path}/train.parquet, row 1")


@pytest.mark.parametrize(
    ("settings", "box"),
    [
        ({"box_format": BoxFormat.xywh}, [1, 2, 10, 20]),
        ({"box_format": BoxFormat.xyxy}, [1, 2, 11, 22]),
        ({"box_format": BoxFormat.cxcywh}, [6, 12, 10, 20]),
        ({"box_format": BoxFormat.xyxy, "normalized": True}, [1 / 40, 2 / 30, 11 / 40, 22 / 30]),
    ],
)
def test_boxes_are_read_as_the_user_says(
    tmp_path: Path, settings: dict[str, Any], box: list[float]
) -> None:
    objects = {"bbox": [[float(side) for side in box]], "category": [1], "area": [200]}
    write(tmp_path, {"image": {"bytes": png()}, "objects": objects})
    row = row_of(tmp_path, classes=["boat", "buoy"], **settings)
    assert row.instances == (Instance("buoy", (1, 2, 11, 22)),)
    assert row.classes == ("boat", "buoy")


def test_objects_may_be_a_list_too(tmp_path: Path) -> None:
    objects = [{"bbox": [1, 2, 10, 20], "label": "boat"}]
    write(tmp_path, {"image": {"bytes": png()}, "objects": objects})
    assert row_of(tmp_path, box_format=BoxFormat.xywh).instances == (
        Instance("boat", (1, 2, 11, 22)),
    )


@pytest.mark.parametrize(
    "names",
    [
        ("data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"),
        ("train-00000-of-00002.parquet", "train-00001-of-00002.parquet"),
        ("train/0000.parquet", "train/0001.parquet"),
    ],
)
def test_a_split_may_be_several_files(tmp_path: Path, names: tuple[str, ...]) -> None:
    for shade, name in enumerate(names):
        write(tmp_path, {"image": {"bytes": png(shade)}}, name=name)
    assert len({row.id for row in rows_of(tmp_path) if isinstance(row, Row)}) == 2
    source = Parquet(path=str(tmp_path), validation_fraction=0.5)
    assert list(source.files("validation")) == [tmp_path / name for name in names]
    assert len([*source.rows("train"), *source.rows("validation")]) == 2


@pytest.mark.parametrize("kind", [pa.ipc.new_stream, pa.ipc.new_file])
def test_arrow_files_are_read_in_both_forms(tmp_path: Path, kind: Any) -> None:
    table = pa.Table.from_pylist([{"image": {"bytes": png(n)}} for n in range(130)])
    with pa.OSFile(str(tmp_path / "train.arrow"), "wb") as sink, kind(sink, table.schema) as writer:
        writer.write_table(table)
    assert len(rows_of(tmp_path)) == 130


@pytest.mark.parametrize(
    ("objects", "settings", "why"),
    [
        (
            {"bbox": [[1, 2, 10, 20]], "category": ["boat"]},
            {},
            "the format of 'bbox' is ambiguous. Set data.box_format=xywh (COCO), xyxy or cxcywh, "
            "and "
            "data.normalized=true for fractions.",
        ),
        (
            {"bbox": [[1, 2, 10, 20]], "category": [3]},
            {"box_format": BoxFormat.xywh},
            "label must be a name, got 3. List the classes, in order, with data.classes=[...].",
        ),
        (
            {"bbox": [[1, 2, 10, 20]], "category": [3]},
            {"box_format": BoxFormat.xywh, "classes": ["boat"]},
            "label must be 0 to 0, got 3. List the classes, in order, with data.classes=[...].",
        ),
        (
            {"bbox": [[1, 2, 10, 20]], "category": ["boat", "buoy"]},
            {"box_format": BoxFormat.xywh},
            "objects must have a label for each of 1 boxes, got 2 labels.",
        ),
        (
            {"bbox": [[30, 2, 38, 20]], "category": ["boat"]},
            {"box_format": BoxFormat.xywh},
            "box must lie inside the image (40x30 px), got x1=68. Boxes are [x, y, width, height] "
            "in "
            "pixels. Set data.box_format=xyxy, with which it lies inside.",
        ),
    ],
)
def test_the_error_of_unreadable_objects_names_the_setting_that_helps(
    tmp_path: Path, objects: Any, settings: dict[str, Any], why: str
) -> None:
    write(tmp_path, {"image": {"bytes": png()}, "objects": objects})
    assert error_of(tmp_path, **settings) == why


def test_a_row_without_image_and_a_corrupt_image_are_errors(tmp_path: Path) -> None:
    write(tmp_path, {"image": {"bytes": None, "path": None}, "id": 1})
    assert error_of(tmp_path).startswith("image must be the path of an image file or a list of")
    assert error_of(tmp_path).endswith("got {'bytes': None, 'path': None}.")
    write(tmp_path, {"image": {"bytes": png()[:50]}})
    assert "is truncated" in error_of(tmp_path)


@pytest.mark.parametrize("name", ["train.parquet", "train.arrow"])
def test_a_file_that_is_not_a_table_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"not a table at all")
    with pytest.raises(DataError) as caught:
        rows_of(tmp_path)
    assert str(caught.value).startswith(
        f"{tmp_path}/{name}: file must be a Parquet or Arrow table ("
    )


def test_files_of_datasets_are_read_with_their_class_names(tmp_path: Path) -> None:
    import datasets

    objects = {
        "bbox": datasets.List(datasets.List(datasets.Value("float32"), length=4)),
        "category": datasets.List(datasets.ClassLabel(names=["boat", "buoy"])),
    }
    features = datasets.Features({"image": datasets.Image(), "objects": objects})
    row = {
        "image": {"bytes": png(), "path": None},
        "objects": {"bbox": [[1, 2, 10, 20]], "category": [1]},
    }
    table = datasets.Dataset.from_list([row], features=features)
    table.to_parquet(tmp_path / "hub/data/train-00000-of-00001.parquet")
    datasets.DatasetDict({"train": table}).save_to_disk(tmp_path / "saved")
    for folder in ("hub", "saved"):
        found = row_of(tmp_path / folder, box_format=BoxFormat.xywh)
        assert found.instances == (Instance("buoy", (1, 2, 11, 22)),)
        assert found.classes == ("boat", "buoy")


DAMAGED = """
import random, sys
from pathlib import Path
from palitune.data.sources.parquet import Parquet
from palitune.errors import DataError

folder, name = Path(sys.argv[1]), sys.argv[2]
intact, rng = (folder / name).read_bytes(), random.Random(0)
for attempt in range(120):
    content = bytearray(intact)
    for _ in range(rng.choice((1, 1, 4, 40))):
        start = rng.randrange(len(content))
        content[start : start + rng.choice((1, 1, 8))] = rng.randbytes(rng.choice((1, 1, 8)))
    (folder / name).write_bytes(content[: rng.choice((len(content), rng.randrange(len(content))))])
    try:
        list(Parquet(path=str(folder)).rows("train"))
    except DataError as error:
        assert "\\n" not in str(error), error
"""


@pytest.mark.parametrize("form", ["parquet", "stream", "file"])
def test_a_damaged_table_is_a_sentence_and_does_not_end_the_process(
    form: str, tmp_path: Path
) -> None:
    rows = [{"image": {"bytes": png(n), "path": None}, "text": "a" * n} for n in range(20)]
    table, name = pa.Table.from_pylist(rows), "train.parquet"
    if form == "parquet":
        parquet.write_table(table, tmp_path / name)
    else:
        name = "train.arrow"
        new = pa.ipc.new_stream if form == "stream" else pa.ipc.new_file
        with pa.OSFile(str(tmp_path / name), "wb") as sink, new(sink, table.schema) as writer:
            writer.write_table(table)
    program = [sys.executable, "-c", DAMAGED, str(tmp_path), name]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
