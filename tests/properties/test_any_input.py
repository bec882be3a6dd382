"""Bad input: any content of a file gives rows or an error message of one sentence."""

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from palitune.data.benchmarks.source import Benchmark
from palitune.data.sources.base import Source
from palitune.data.sources.box_formats import BoxFormat
from palitune.data.sources.coco import Coco
from palitune.data.sources.jsonl import Jsonl
from palitune.data.sources.refcoco import RefCoco
from palitune.data.sources.voc import Voc
from palitune.data.sources.webdataset import WebDataset
from palitune.data.sources.yolo import Yolo
from palitune.errors import DataError
from palitune.records import Row

ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 99) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)
NUMBERS = st.lists(st.integers(-5, 50) | st.floats(-1, 50), max_size=9)
POLYGONS = st.lists(NUMBERS | ANY, max_size=3)
RUNS = st.fixed_dictionaries({"size": ANY | st.just([30, 40]), "counts": st.text() | NUMBERS})
MASKS = ANY | POLYGONS | RUNS
fuzzed = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("train", "images/train", "labels/train"):
        (tmp_path / name).mkdir(parents=True)
        Image.new("RGB", (40, 30)).save(tmp_path / name / "a.png")
    return tmp_path


def assert_rows_or_sentences(source: Source) -> None:
    def all_rows() -> Iterator[Row | DataError]:
        try:
            yield from source.rows("train")
        except DataError as mistake:
            yield mistake

    for row in all_rows():
        assert isinstance(row, Row) or str(row).startswith(str(source.path)), row
        assert isinstance(row, Row) or "\n" not in str(row)


@fuzzed
@given(box=ANY | NUMBERS, mask=MASKS, category=ANY | st.just(1), crowd=ANY)
def test_coco(folder: Path, box: Any, mask: Any, category: Any, crowd: Any) -> None:
    annotation = {"id": 5, "image_id": 1, "category_id": category, "bbox": box, "iscrowd": crowd}
    content = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "annotations": [annotation | {"segmentation": mask}],
        "categories": [{"id": 1, "name": "boat"}],
    }
    (folder / "train/_annotations.coco.json").write_text(json.dumps(content))
    assert_rows_or_sentences(Coco(path=str(folder), masks=True))


@fuzzed
@given(
    objects=ANY
    | st.fixed_dictionaries({"bbox": ANY | st.lists(NUMBERS), "category": ANY | NUMBERS})
    | st.lists(st.fixed_dictionaries({"label": ANY, "box": ANY | NUMBERS, "mask": MASKS})),
    form=st.none() | st.sampled_from(BoxFormat),
    normalized=st.booleans(),
)
def test_jsonl(folder: Path, objects: Any, form: BoxFormat | None, normalized: bool) -> None:
    line = json.dumps({"image": "train/a.png", "objects": objects})
    (folder / "train.jsonl").write_text(line)
    source = Jsonl(
        path=str(folder),
        box_format=form,
        normalized=normalized,
        masks=True,
        classes=["boat", "buoy"],
    )
    assert_rows_or_sentences(source)


LINES = st.lists(st.lists(st.integers(0, 2) | st.floats(-1, 2), max_size=9), max_size=3)


@fuzzed
@given(
    labels=st.binary()
    | LINES.map(lambda lines: "\n".join(" ".join(map(str, line)) for line in lines).encode())
)
def test_yolo(folder: Path, labels: bytes) -> None:
    (folder / "data.yaml").write_text("names: [boat, buoy]\ntrain: images/train\n")
    (folder / "labels/train/a.txt").write_bytes(labels)
    assert_rows_or_sentences(Yolo(path=str(folder), masks=True))


@fuzzed
@given(description=st.binary() | st.dictionaries(st.sampled_from(["names", "train", "path"]), ANY))
def test_yolos_description(folder: Path, description: Any) -> None:
    written = description if isinstance(description, bytes) else json.dumps(description).encode()
    (folder / "data.yaml").write_bytes(written)
    assert_rows_or_sentences(Yolo(path=str(folder)))


TAGS = ("annotation", "object", "name", "bndbox", "xmin", "size", "width", "filename", "difficult")
XML = st.recursive(
    st.text("ab1.9<&;/ ", max_size=6),
    lambda inner: st.tuples(st.sampled_from(TAGS), st.lists(inner, max_size=4)).map(
        lambda entry: f"<{entry[0]}>{''.join(entry[1])}</{entry[0]}>"
    ),
    max_leaves=8,
)


@fuzzed
@given(
    content=st.binary()
    | XML.map(str.encode)
    | XML.map(lambda x: f"<annotation>{x}</annotation>".encode())
)
def test_voc(folder: Path, content: bytes) -> None:
    (folder / "train/a.xml").write_bytes(content)
    assert_rows_or_sentences(Voc(path=str(folder)))


@fuzzed
@given(refs=ANY | st.lists(st.fixed_dictionaries(
    {"ann_id": ANY | st.just(1), "image_id": ANY | st.just(1), "split": ANY | st.just("train"),
     "ref_id": ANY, "sentences": ANY | st.lists(st.fixed_dictionaries({"sent": ANY}))}
)))  # fmt: skip
def test_refcoco(folder: Path, refs: Any) -> None:
    content = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}],
        "categories": [{"id": 1, "name": "boat"}],
    }
    (folder / "instances.json").write_text(json.dumps(content))
    (folder / "refs.json").write_text(json.dumps(refs))
    assert_rows_or_sentences(RefCoco(path=str(folder), images="train"))


KEYS = {
    "docvqa": ("train_v1.0.json", "data", "questionId question image answers"),
    "vqav2": ("v2_OpenEnded_mscoco_train2014_questions.json", "questions",
              "question_id question image_id"),
    "gqa": ("train_balanced_questions.json", "7", "imageId question answer types fullAnswer"),
    "aokvqa_mc": ("aokvqa_v1p0_train.json", None, "question_id question image_id choices "
                  "correct_choice_idx"),
    "scienceqa": ("problems.json", "7", "question choices answer hint image split"),
    "ocrvqa": ("dataset.json", "7", "imageURL questions answers split"),
    "textcaps": ("TextCaps_0.1_train.json", "data", "image_id caption_str"),
    "coco_captions": ("dataset_coco.json", "images", "cocoid filename filepath sentences split"),
}  # fmt: skip
CELL = ANY | st.just("a.png") | st.just("train") | st.just(1) | st.lists(st.text(max_size=3))


@fuzzed
@given(data=st.data(), layout=st.sampled_from(sorted(KEYS)))
def test_benchmarks(folder: Path, data: st.DataObject, layout: str) -> None:
    name, under, keys = KEYS[layout]
    record = data.draw(ANY | st.fixed_dictionaries({}, optional=dict.fromkeys(keys.split(), CELL)))
    whole = record if under == "7" else [record]
    content = data.draw(ANY | st.just(whole if under is None else {under: whole}))
    (folder / name).write_text(json.dumps(content))
    answers = data.draw(ANY | st.just({"annotations": [{"question_id": 1, "answers": ["a"]}]}))
    (folder / "v2_mscoco_train2014_annotations.json").write_text(json.dumps(answers))
    assert_rows_or_sentences(Benchmark(layout=layout, path=str(folder), images="train"))


@fuzzed
@given(words=st.binary() | st.lists(st.lists(NUMBERS).map(str)).map(",".join).map(str.encode))
def test_words_in_photographs(folder: Path, words: bytes) -> None:
    (folder / "ch4_training_localization_transcription_gt").mkdir(exist_ok=True)
    (folder / "ch4_training_localization_transcription_gt/gt_a.txt").write_bytes(words)
    assert_rows_or_sentences(Benchmark(layout="icdar15", path=str(folder)))


@fuzzed
@given(content=st.binary() | ANY.map(json.dumps).map(str.encode), ending=st.sampled_from(
    ["json", "txt", "jpg", "cls"]
))  # fmt: skip
def test_webdataset(folder: Path, content: bytes, ending: str) -> None:
    with tarfile.open(folder / "train.tar", "w") as archive:
        archive.add(folder / "train/a.png", "a.png")
        told = tarfile.TarInfo(f"a.{ending}")
        told.size = len(content)
        archive.addfile(told, io.BytesIO(content))
    assert_rows_or_sentences(WebDataset(path=str(folder)))
