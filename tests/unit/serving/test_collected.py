"""Kept answers are a data set that our own sources read."""

import base64
import io
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from palitune.data.sources.coco import Coco
from palitune.data.sources.jsonl import Jsonl
from palitune.errors import DataError
from palitune.records import Row
from palitune.serving.collected import KeptAnswers, build_dataset
from palitune.serving.config import ServerConfig

SETTINGS = ServerConfig()


def image(kind: str = "PNG") -> str:
    file = io.BytesIO()
    Image.new("RGB", (60, 40), "red").save(file, kind)
    return base64.b64encode(file.getvalue()).decode()


def kept(*items: dict[str, object]) -> KeptAnswers:
    return KeptAnswers.model_validate({"items": list(items)})


def rows(source: Coco | Jsonl) -> list[Row]:
    read = list(source.rows("train"))
    assert all(isinstance(row, Row) for row in read)
    return [row for row in read if isinstance(row, Row)]


def test_kept_answers_are_read_by_coco_and_jsonl(tmp_path: Path) -> None:
    boxes = [{"label": "boat", "box": [1, 2, 30, 40]}, {"label": "été ; 2", "box": [0, 0, 60, 5.5]}]
    content = build_dataset(
        kept(
            {"image": image(), "prompt": "detect boat", "instances": boxes},
            {"image": image("JPEG"), "prompt": "detect boat", "instances": []},
        ),
        SETTINGS,
    )
    zipfile.ZipFile(io.BytesIO(content)).extractall(tmp_path)
    for source in (Coco(path=str(tmp_path)), Jsonl(path=str(tmp_path))):
        first, second = rows(source)
        assert first.size == second.size == (60, 40)
        found = [(each.label, each.box) for each in first.instances or ()]
        assert found == [("boat", (1, 2, 30, 40)), ("été ; 2", (0, 0, 60, 5.5))]
        assert second.instances == ()


def test_kept_texts_are_read_by_jsonl(tmp_path: Path) -> None:
    item = {"image": image(), "prompt": "ocr", "text": "line 1\nzwei"}
    zipfile.ZipFile(io.BytesIO(build_dataset(kept(item), SETTINGS))).extractall(tmp_path)
    [row] = rows(Jsonl(path=str(tmp_path)))
    assert (row.prefix, row.suffix) == ("ocr", "line 1\nzwei")
    assert not (tmp_path / "train/_annotations.coco.json").exists()


@pytest.mark.parametrize("box", [[0, 0, 61, 4], [5, 0, 5, 4], [9, 0, 3, 4]])
def test_a_box_outside_its_image_is_a_sentence(box: list[int]) -> None:
    item = {"image": image(), "prompt": "x", "instances": [{"label": "a", "box": box}]}
    with pytest.raises(DataError, match=r"inside the image of 60 x 40"):
        build_dataset(kept(item), SETTINGS)
