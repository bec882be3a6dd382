"""RefCOCO: rows by sentence, the converter of its pickle, and what neither of them accepts."""

import importlib.util
import json
import os
import pickle
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

from palitune.data.sources.refcoco import ExpressionSelection, RefCoco
from palitune.errors import DataError
from palitune.records import Instance, Row

from support.official_files import write_benchmark

SCRIPT = Path(__file__).parents[4] / "scripts" / "convert" / "refcoco.py"
REF = {
    "ref_id": 7,
    "ann_id": 5,
    "image_id": 17,
    "category_id": 3,
    "split": "testA",
    "sentences": [{"sent_id": 1, "sent": "left boat"}, {"sent_id": 2, "sent": "the red one"}],
}


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("convert_refcoco", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows_of(folder: Path, *refs: Any, split: str = "testA", **settings: Any) -> list[Any]:
    Image.new("RGB", (40, 30)).save(folder / "a.png")
    instances = {
        "images": [{"id": 17, "file_name": "a.png"}],
        "annotations": [{"id": 5, "image_id": 17, "category_id": 3, "bbox": [1, 2, 10, 20]}],
        "categories": [{"id": 3, "name": "boat"}],
    }
    (folder / "instances.json").write_text(json.dumps(instances))
    (folder / "refs.json").write_text(json.dumps(list(refs)))
    return list(RefCoco(path=str(folder), **settings).rows(split))


def test_every_sentence_is_a_row(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, REF, REF | {"split": "train"})
    assert rows[0] == Row(
        id="7-1",
        images=(str(tmp_path / "a.png"),),
        size=(40, 30),
        location=f"{tmp_path}/refs.json, ref_id 7",
        expression="left boat",
        instances=(Instance("boat", (1, 2, 11, 22)),),
        classes=("boat",),
    )
    assert [(row.id, row.expression) for row in rows[1:]] == [("7-2", "the red one")]


def test_one_sentence_is_drawn_with_the_ref_id_as_seed(tmp_path: Path) -> None:
    refs = [REF | {"ref_id": number} for number in range(20)]
    drawn = rows_of(tmp_path, *refs, sentences=ExpressionSelection.one)
    assert drawn == rows_of(tmp_path, *refs, sentences=ExpressionSelection.one)
    assert {row.expression for row in drawn} == {"left boat", "the red one"}
    assert len(drawn) == 20


def test_the_splits_are_those_of_the_file(tmp_path: Path) -> None:
    rows_of(tmp_path, REF, REF | {"split": "val"})
    source = RefCoco(path=str(tmp_path))
    assert source.available_splits() == ["testA", "validation"]
    assert len(list(source.rows("val"))) == len(list(source.rows("validation"))) == 2
    with pytest.raises(DataError, match=r"refs.json: split must be one of testA, validation, got"):
        list(source.rows("train"))
    assert {file.name for file in source.files("testA")} == {"refs.json", "instances.json"}


SENTENCES = 'sentences must be a list of {"sent_id": 3, "sent": "the boat on the left"}'


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        (
            {"ann_id": 6},
            "annotation must be in {}/instances.json, got 6. Use the instances.json of",
        ),
        ({"ann_id": [5]}, "annotation must be in {}/instances.json, got [5]."),
        ({"image_id": 18}, "image must be in {}/instances.json, got 18."),
        ({"sentences": []}, f"{SENTENCES}, got []."),
        ({"sentences": [{"sent": " "}]}, f"{SENTENCES}, got [{{'sent': ' '}}]."),
        ({"sentences": None}, f"{SENTENCES}, got None."),
    ],
)
def test_an_invalid_reference_is_an_error(tmp_path: Path, changed: Any, why: str) -> None:
    [bad] = rows_of(tmp_path, REF | changed)
    assert isinstance(bad, DataError)
    assert str(bad).startswith(
        f"{tmp_path}/refs.json, ref_id 7: {why.replace('{}', str(tmp_path))}"
    )


def test_invalid_files_are_an_error(tmp_path: Path) -> None:
    rows_of(tmp_path, REF)
    (tmp_path / "refs.json").write_text("{")
    with pytest.raises(DataError, match=r"refs\.json: file must be JSON .* scripts/convert/refc"):
        list(RefCoco(path=str(tmp_path)).rows("testA"))
    (tmp_path / "refs.json").write_text("[3]")
    with pytest.raises(DataError, match=r"refs\.json: file must be a list of objects, got \[3\]\."):
        list(RefCoco(path=str(tmp_path)).rows("testA"))
    rows_of(tmp_path, REF)
    (tmp_path / "instances.json").unlink()
    with pytest.raises(DataError, match=r"instances\.json does not exist\. Set data\.instances="):
        list(RefCoco(path=str(tmp_path)).rows("testA"))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_of_plain_data_becomes_json(
    tmp_path: Path, script: ModuleType, protocol: int
) -> None:
    full = REF | {"file_name": "COCO_train2014_000000000017_5.jpg", "sent_ids": [1, 2]}
    (tmp_path / "refs(unc).p").write_bytes(pickle.dumps([full], protocol))
    assert script.main([str(tmp_path / "refs(unc).p"), str(tmp_path / "refs.json")]) is None
    assert json.loads((tmp_path / "refs.json").read_text()) == [REF]


def test_texts_of_python_2_are_read(script: ModuleType) -> None:
    raw = b"(lp0\n(dS'split'\nS'val'\nsS'sentences'\n(l(dS'sent'\nS'a'\nsasa."  # protocol 0
    assert script.load_references(raw) == [
        {"split": "val", "sentences": [{"sent_id": None, "sent": "a"}]}
    ]


class Harmful:
    def __reduce__(self) -> Any:
        return os.mkdir, ("made-by-a-pickle",)


@pytest.mark.parametrize("content", [[Harmful()], [REF | {"sentences": Harmful()}], [Path("a")]])
def test_a_pickle_that_runs_code_is_rejected(
    tmp_path: Path, script: ModuleType, content: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "refs.p").write_bytes(pickle.dumps(content))
    message = script.main([str(tmp_path / "refs.p"), str(tmp_path / "refs.json")])
    assert message.startswith(f"{tmp_path}/refs.p: it contains ")
    assert [file.name for file in tmp_path.iterdir()] == ["refs.p"]


def test_the_converter_rejects_other_files(tmp_path: Path, script: ModuleType) -> None:
    (tmp_path / "refs.p").write_bytes(b"not a pickle")
    assert "refs.p: " in script.main([str(tmp_path / "refs.p"), str(tmp_path / "refs.json")])
    (tmp_path / "refs.p").write_bytes(pickle.dumps({"a": 1}))
    message = script.main([str(tmp_path / "refs.p"), str(tmp_path / "refs.json")])
    assert message.endswith("refs.p: it is not a list of references")


SETS = ["refcoco", "refcocoplus", "refcocog"]


def test_joint_training_excludes_every_evaluation_image(
    tmp_path: Path,
) -> None:
    source = RefCoco(
        path=str(write_benchmark("refcoco", tmp_path / "all")), sets=SETS, images="train2014"
    )
    rows = [row for row in source.rows("train") if isinstance(row, Row)]
    assert {row.id.split("/")[0] for row in rows} == set(SETS)
    assert len({row.id for row in rows}) == len(rows) == 6
    assert {Path(row.images[0]).name for row in rows} == {"COCO_train2014_000000000000.jpg"}
    alone = RefCoco(path=str(tmp_path / "all/refcoco"), images="../train2014")
    shown = {Path(row.images[0]).name for row in alone.rows("train") if isinstance(row, Row)}
    assert "COCO_train2014_000000000002.jpg" in shown  # a test image of RefCOCOg
    assert len(list(source.files("train"))) == 6


def test_evaluation_splits_have_the_name_of_their_data_set(tmp_path: Path) -> None:
    source = RefCoco(
        path=str(write_benchmark("refcoco", tmp_path / "all")), sets=SETS, images="train2014"
    )
    assert source.available_splits()[:5] == [
        "train", "refcoco/train", "refcoco/validation", "refcoco/testA", "refcoco/testB"
    ]  # fmt: skip
    ids = {
        split: [row.id for row in source.rows(split)] for split in ("refcoco/val", "refcocog/test")
    }
    assert ids == {
        "refcoco/val": ["refcoco/1-2", "refcoco/1-3"],
        "refcocog/test": ["refcocog/2-4", "refcocog/2-5", "refcocog/91-182", "refcocog/91-183"],
    }
    assert [file.parent.name for file in source.files("refcocog/test")] == ["refcocog"] * 2
    assert len(list(source.rows("testA"))) == 4
    with pytest.raises(DataError, match=r"refcoco/refs.json: split must be one of train, .*, got"):
        list(source.rows("refcoco/test"))
    with pytest.raises(
        DataError, match=r"no split 'refcocx/test' .*searched for refcoco/refs.json, "
    ):
        list(source.rows("refcocx/test"))
