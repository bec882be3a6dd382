"""Quirks of the official downloads, written by hand after the originals."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from palitune.data.benchmarks.source import Benchmark
from palitune.data.example_cache import iterate_examples
from palitune.data.inspection.scan import InspectionConfig, scan
from palitune.data.skipped import SkipCounter
from palitune.data.sources.base import DatasetSpec
from palitune.data.sources.coco import Coco
from palitune.errors import DataError
from palitune.models.config import Local
from palitune.models.loading import load_processor
from palitune.records import Example, Row
from palitune.tasks.detection import Detection
from palitune.tasks.segmentation import Segmentation
from palitune.tasks.table_structure import TableStructure
from palitune.tasks.vqa import Vqa

from support.official_files import draw_image, write_csv, write_file, write_jsonl, write_parquet


def rows(layout: str, folder: Path, split: str, **settings: Any) -> list[Row]:
    result = list(Benchmark(layout=layout, path=str(folder), **settings).rows(split))
    assert not [row for row in result if isinstance(row, DataError)], result
    return [row for row in result if isinstance(row, Row)]


def question(image: str) -> dict[str, Any]:
    return {"questionId": 7, "question": "What?", "image": image, "answers": ["x"]}


@pytest.mark.parametrize("images", ["images", "spdocvqa_images"])
def test_docvqa_opens_as_its_new_archive_unpacks(images: str, tmp_path: Path) -> None:
    draw_image(tmp_path / images / "a_1.png")
    for split, suffix in {"train": "_withQT", "val": "_withQT", "test": ""}.items():
        content = {"data": [question("documents/a_1.png")]}
        write_file(tmp_path / f"spdocvqa_qas/{split}_v1.0{suffix}.json", content)
    for split in ("train", "validation", "test"):
        [row] = rows("docvqa", tmp_path, split)
        assert row.images == (str(tmp_path / images / "a_1.png"),)


def test_docvqa_opens_as_its_old_archives_unpack(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        draw_image(tmp_path / f"{split}/documents/{split}_1.png")
        content = {"data": [question(f"documents/{split}_1.png")]}
        write_file(tmp_path / f"{split}/{split}_v1.0.json", content)
    assert Benchmark(layout="docvqa", path=str(tmp_path)).available_splits()[:3] == [
        "train", "validation", "test",
    ]  # fmt: skip
    [row] = rows("docvqa", tmp_path, "validation")
    assert row.images == (str(tmp_path / "val/documents/val_1.png"),)


@pytest.mark.parametrize("folder", ["Groundtruth/Polygon", "txt_format"])
def test_total_text_has_long_outlines_empty_words_and_commas(folder: str, tmp_path: Path) -> None:
    draw_image(tmp_path / "Images/Train/img61.JPG")
    text = (
        "x: [[10 20 30\n  28]], y: [[ 5  4\n 12 14]], ornt: [u'c'], transcriptions: [u'A,B']\n"
        "x: [[40 50 50 40]], y: [[20 20 30 30]], ornt: [], transcriptions: []\n"
        "x: [[1 5 5 1]], y: [[2 2 9 9]], ornt: [u'h'], transcriptions: [u\"IT'S]\"]\n"
    )
    write_file(tmp_path / folder / "Train/poly_gt_img61.txt", text)
    [row] = rows("total_text", tmp_path, "train")
    assert [(i.label, i.box) for i in row.instances or ()] == [
        ("A,B", (10, 4, 30, 14)), ("###", (40, 20, 50, 30)), ("IT'S]", (1, 2, 5, 9)),
    ]  # fmt: skip


def test_a_bad_line_of_total_text_is_named(tmp_path: Path) -> None:
    draw_image(tmp_path / "Images/Train/img1.jpg")
    text = "x: [[1 2]], y: [[1 2]], ornt: [u'c'], transcriptions: [u'A']\n\nx: 1, y: 2\n"
    write_file(tmp_path / "txt_format/Train/poly_gt_img1.txt", text)
    with pytest.raises(DataError, match=r"poly_gt_img1\.txt:3: line must be an outline"):
        list(Benchmark(layout="total_text", path=str(tmp_path)).rows("train"))


@pytest.mark.parametrize("name", ["CLEF", "UOB", "USPTO"])
def test_molecules_have_their_official_names_and_ids_of_their_files(
    name: str, tmp_path: Path
) -> None:
    draw_image(tmp_path / f"real/{name}/US007.png")
    write_csv(
        tmp_path / f"real/{name}.csv", ["file_path", "SMILES"], [f"real/{name}/US007.png", "CO"]
    )
    [row] = rows("molecules", tmp_path, name.lower())
    assert (row.id, row.text) == ("US007", "CO")


def test_ocr_vqa_images_are_jpeg_whatever_the_address_is(tmp_path: Path) -> None:
    draw_image(tmp_path / "images/0001.jpg")
    book = {"imageURL": "http://a/5.gif", "split": 1, "questions": ["Who?"], "answers": ["Ann"]}
    write_file(tmp_path / "dataset.json", {"0001": book})
    [row] = rows("ocrvqa", tmp_path, "train")
    assert row.images == (str(tmp_path / "images/0001.jpg"),)


def test_an_open_question_of_mmmu_has_all_its_answers(tmp_path: Path) -> None:
    from palitune.data.benchmarks.exams import EXAM_BENCHMARKS

    draw_image(tmp_path / "1.png")
    image = {"bytes": (tmp_path / "1.png").read_bytes(), "path": "1.png"}
    for subject in EXAM_BENCHMARKS["mmmu"].splits["validation"]:
        name = subject.metadata["subject"]
        record = {
            "id": f"validation_{name}_1", "question": "How many <image 1>?", "options": "[]",
            "answer": "['8', 'eight']", "question_type": "open", "image_1": image,
            **{f"image_{n}": None for n in range(2, 8)},
        }  # fmt: skip
        write_parquet(tmp_path / f"{name}/validation-00000-of-00001.parquet", [record])
    assert {row.answers for row in rows("mmmu", tmp_path, "validation")} == {("8", "eight")}


def test_difficult_questions_of_aokvqa_are_an_attribute(tmp_path: Path) -> None:
    draw_image(tmp_path / "train2017/000000000005.jpg")
    record = {
        "split": "train", "image_id": 5, "question_id": "q", "question": "Why?",
        "choices": ["a", "b", "c", "d"], "correct_choice_idx": 1, "direct_answers": ["b"] * 10,
        "difficult_direct_answer": True,
    }  # fmt: skip
    write_file(tmp_path / "aokvqa_v1p0_train.json", [record])
    [row] = rows("aokvqa_da", tmp_path, "train")
    assert row.attributes == {"difficult_direct_answer": "True"}


def test_tables_of_a_test_set_have_no_html(tmp_path: Path) -> None:
    draw_image(tmp_path / "test/PMC1.png")
    record = {"filename": "PMC1.png", "split": "test", "imgid": 1}
    write_jsonl(tmp_path / "PubTabNet_2.0.0.jsonl", [record])
    source = Benchmark(layout="pubtabnet", path=str(tmp_path))
    [example], counter = examples(source, TableStructure(), "test")
    assert (example.suffixes, counter.messages()) == ((), [])


def examples(source: Any, task: Any, split: str) -> tuple[list[Example], SkipCounter]:
    counter = SkipCounter()

    def fail(error: DataError) -> None:
        raise error

    pairs = iterate_examples(source, task, split, fail, counter, allow_missing_references=True)
    return [example for _, example in pairs], counter


def test_test_questions_about_images_that_do_not_exist_are_counted(tmp_path: Path) -> None:
    draw_image(tmp_path / "test2015/COCO_test2015_000000000001.jpg")
    records = [{"image_id": n, "question": "Is it?", "question_id": n} for n in (1, 2, 3)]
    write_file(tmp_path / "v2_OpenEnded_mscoco_test2015_questions.json", {"questions": records})
    source = Benchmark(layout="vqav2", path=str(tmp_path))
    made, counter = examples(source, Vqa(), "test")
    assert [example.id for example in made] == ["1"]
    [message] = counter.messages()
    assert message.startswith("left out: 2 records whose image does not exist, in 2 rows: ")


def write_coco(folder: Path) -> None:
    draw_image(folder / "images/1.jpg")
    square = [[8, 6, 40, 6, 40, 30, 8, 30]]
    annotations = [
        {"id": 918, "image_id": 1, "category_id": 3, "bbox": [9.98, 20.5, 30.2, 0.0],
         "segmentation": [[9.98, 20.5, 20, 20.5, 40, 20.5]], "iscrowd": 0},
        {"id": 2, "image_id": 1, "category_id": 3, "bbox": [8, 6, 32, 24],
         "segmentation": square, "iscrowd": 0},
        {"id": 3, "image_id": 1, "category_id": 3, "bbox": [8, 6, 32, 24],
         "segmentation": {"size": [48, 64], "counts": [3072]}, "iscrowd": 0},
    ]  # fmt: skip
    content = {
        "images": [{"id": 1, "file_name": "1.jpg", "width": 64, "height": 48}],
        "annotations": annotations,
        "categories": [{"id": 3, "name": "boat"}],
    }
    write_file(folder / "annotations/instances_train2017.json", content)


def test_coco_objects_without_area_are_left_out_and_counted(tmp_path: Path) -> None:
    write_coco(tmp_path)
    [example], counter = examples(Coco(path=str(tmp_path)), Detection(), "train")
    assert len(example.reference) == 2
    [message] = counter.messages()
    assert message.startswith("left out: 1 objects without area, in 1 rows: ")
    assert message.endswith("annotation id 918")


def test_coco_masks_without_pixels_are_left_out_and_counted(tmp_path: Path) -> None:
    write_coco(tmp_path)
    [example], counter = examples(Coco(path=str(tmp_path), masks=True), Segmentation(), "train")
    assert len(example.reference) == 1
    assert [message.partition(", in")[0] for message in counter.messages()] == [
        "left out: 1 objects without area", "left out: 1 masks without pixels",
    ]  # fmt: skip


def test_inspection_accepts_a_split_without_answers_and_composed_splits(
    tmp_path: Path, tiny: Callable[[str], Path]
) -> None:
    draw_image(tmp_path / "images/a_1.png")
    for split, count in {"train": 20, "val": 1, "test": 1}.items():
        records = [
            question("a_1.png") | {"questionId": f"{split}{n}", "question": f"{n}?"}
            for n in range(count)
        ]
        for record in records if split == "test" else ():
            del record["answers"]
        if split != "train":
            draw_image(tmp_path / f"images/{split}.png", (90 + len(split), 50))
            records[0]["image"] = f"{split}.png"
        write_file(tmp_path / f"{split}_v1.0.json", {"data": records})
    source = Benchmark(layout="docvqa", path=str(tmp_path))
    spec = DatasetSpec("docvqa", Vqa(template="{question}"), source)
    processor = load_processor(Local(path=str(tiny("paligemma2"))))
    config = InspectionConfig(
        splits=[], train_split="train", max_length=512, num_samples=1, codec_samples=0
    )
    report = scan([spec], processor, config)
    by_split = {split.split: split.stats for split in report.splits}
    assert by_split["test"]["examples"] == 1
    assert {stats["bad_rows"] for stats in by_split.values()} == {0}
    assert by_split["test"]["empty_suffixes"] == 0
    assert set(report.duplicates.across_splits) == {("minitrain", "minival")}
