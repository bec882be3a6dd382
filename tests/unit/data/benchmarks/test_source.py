"""Benchmarks: rows from miniatures of their official files, and errors for other files."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from palitune.data.benchmarks.source import BENCHMARKS, Benchmark
from palitune.data.images.io import open_image
from palitune.data.images.video import VideoSampling
from palitune.errors import DataError
from palitune.records import Instance, Row

from support.official_files import write_benchmark, write_file
from support.videos import frame_index

TEN = ("Red",) * 7 + ("red",) * 3
MC = ("ride", "shop", "hit", "pass")
ROWS: list[tuple[str, str, str, dict[str, Any]]] = [
    ("docvqa", "train", "100", {"question": "What is the date? 0",
                                "answers": ("Jan. 7", "January 7")}),
    ("docvqa", "minival", "119", {"question": "What is the date? 19"}),
    ("docvqa", "test", "100", {"answers": None}),
    ("infovqa", "train", "65718", {"answers": ("Red, Blue", "30%")}),
    ("infovqa", "validation", "65718", {"answers": ("Red, Blue", "Blue, Red", "30%")}),
    ("stvqa", "train", "0", {"answers": ("STOP", "Stop Sign"), "attributes": {"origin": "icdar"}}),
    ("textvqa", "validation", "34602", {"answers": ("Nokia",) * 6 + ("nokia",) * 3}),
    ("vqav2", "train", "1", {"question": "What colour is it?", "answers": TEN, "attributes":
                             {"question_type": "what color", "answer_type": "other"}}),
    ("vqav2", "test-dev", "1000", {"question": "Is it?", "answers": None, "attributes": {}}),
    ("okvqa", "validation", "1001", {"answers": TEN, "attributes": {"question_type": "eight"}}),
    ("aokvqa_da", "validation", "22MexNkBPpdZGX6sxbxVBH",
     {"answers": ("hit",) * 8 + ("play",) * 2}),
    ("aokvqa_mc", "train", "22MexNkBPpdZGX6sxbxVBH", {"answers": ("hit",), "choices": MC}),
    ("aokvqa_mc", "test", "22MexNkBPpdZGX6sxbxVBH", {"answers": None, "choices": MC}),
    ("vizwiz", "train", "VizWiz_train_00000000.jpg",
     {"answers": ("unanswerable",) * 4 + ("Can",) * 5, "attributes": {"answer_type": "other"}}),
    ("gqa", "testdev", "20602803", {"question": "Are there horses?", "answers": ("no",),
                                    "attributes": {"structure": "verify", "about": "attr"}}),
    ("xgqa", "test", "20602803-bn", {"question": "(bn) Gibt es Pferde?",
                                     "attributes": {"language": "bn"}}),
    ("tallyqa", "train", "25-1", {"question": "How many?", "answers": ("3",), "attributes": {}}),
    ("tallyqa", "test", "2-0", {"attributes": {"complexity": "simple"}}),
    ("countbenchqa", "test", "0", {"question": "How many pigs are there in the image?",
                                   "answers": ("4",)}),
    ("scienceqa", "train", "0", {"answers": ("pull",), "choices": ("push", "pull"), "hint": ""}),
    ("scienceqa", "test", "2", {"hint": "Look at the hand."}),
    ("ai2d", "train", "1.png-0", {"answers": ("B",), "choices": ("A", "B"),
                                  "question": "Which letter is the leaf?"}),
    ("ai2d", "test", "2.png-0", {"answers": ("B",)}),
    ("chartqa", "test", "test-human-0", {"question": "What is the Peak?", "answers": ("41.5%",),
                                    "attributes": {"half": "human"}}),
    ("ocrvqa", "validation", "0002-0", {"question": "Who wrote this book?",
                                        "answers": ("Sandra",)}),
    ("rsvqa_lr", "test", "20", {"question": "Is it comp?", "answers": ("Yes",),
                               "attributes": {"question_type": "comp"}}),
    ("rsvqa_hr", "test2", "30", {"answers": ("Yes",)}),
    ("nlvr2", "train", "train-3-0-1", {"question": "Both dogs are black.", "answers": ("False",)}),
    ("nlvr2", "validation", "dev-3-0-1", {}),
    ("marvl", "test", "id-0", {"question": "Gambar kiri.", "answers": ("True",),
                               "attributes": {"language": "id"}}),
    ("activitynet_captions", "test", "v_val_2-0", {"captions": ("A man runs.",)}),
    ("activitynet_qa", "train", "train_1", {"question": "is he wet", "answers": ("yes",),
                                            "attributes": {"question_type": "3"}}),
    ("msrvtt_captions", "validation", "video1", {"captions": ("a car 0", "a car 1")}),
    ("msrvtt_qa", "test", "2", {"question": "what is a man doing?", "answers": ("singing",)}),
    ("msvd_qa", "test", "2", {"question": "who eats?", "answers": ("squirrel",)}),
    ("vatex", "test", "public_000122_000132",
     {"captions": tuple(f"A baby laughs {n}." for n in range(10))}),
    ("mmmu", "validation", "validation_Accounting_1",
     {"answers": ("pull",), "choices": ("push", "pull"),
      "attributes": {"subject": "Accounting", "question_type": "multiple-choice"}}),
    ("mathvista", "testmini", "1", {"answers": ("CD",), "choices": ("AB", "CD")}),
    ("pubtabnet", "train", "0", {"text": '<table><tr><td><b>n</b></td><td colspan="2"></td>'
                                         "<td>&lt;5</td></tr></table>", "size": (64, 64)}),
    ("molecules", "train", "7", {"text": "C1=CC=CC=C1O", "size": (64, 64)}),
    ("molecules", "acs", "7", {}),
    ("grandstaff", "train", "chopin/mazurkas/mazurka06-1/maj2_down_m-0-4", {}),
    ("pope", "test", "random-1", {"question": "Is there a cup in the image?", "answers": ("yes",),
                                  "attributes": {"kind": "random"}}),
    ("vsr", "test", "test-0", {"question": "The plant is left of the bench.", "answers": ("True",),
                          "attributes": {"relation": "left of"}}),
    ("coco_captions", "test", "6", {"captions": tuple(f"A Red boat. {n}" for n in range(5))}),
    ("coco35l", "train", "57870-de", {"captions": ("de Boot 0", "de Boot 1"), "language": "de"}),
    ("xm3600", "test", "000411001ff7dd4f-en", {"captions": ("A boat.",), "language": "en",
                                               "attributes": {"language": "en"}}),
    ("nocaps", "validation", "4", {"captions": tuple(f"A baby {n}." for n in range(10)),
                                   "attributes": {"domain": "near-domain"}}),
    ("nocaps", "test", "4", {"captions": None}),
    ("textcaps", "train", "0train", {"captions": ("A Nokia phone", "A PHONE.")}),
    ("scicap", "test", "1001.testv1-Figure2-1", {"captions": ("the curve .",)}),
    ("screen2words", "test", "2", {"captions": tuple(f"screen of an app, {n}" for n in range(5))}),
    ("widgetcap", "test", "2_0.1.0", {"captions": ("go back", "return to the last page"),
                                      "instances": (Instance("widget", (9, 16, 18, 32)),)}),
    ("docci", "test", "test_00000", {"captions": ("An indoor angled view of a boat.",)}),
    ("icdar15", "train", "img_1", {"instances": (Instance("Genaxis, Theatre", (9, 4, 31, 13)),
                                                 Instance("###", (40, 20, 60, 30)))}),
    ("total_text", "test", "img11", {"instances": (Instance("PETROSAINS", (10, 4, 30, 14)),
                                                   Instance("###", (40, 20, 50, 30)))}),
]  # fmt: skip


@pytest.fixture(scope="module")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("downloads")


def benchmark(downloads: Path, layout: str, **settings: Any) -> Benchmark:
    return Benchmark(
        layout=layout, path=str(write_benchmark(layout, downloads / layout)), **settings
    )


def rows(source: Benchmark, split: str) -> list[Any]:
    return list(source.rows(split))


@pytest.mark.parametrize(("layout", "split", "row_id", "columns"), ROWS)
def test_a_row_holds_what_the_official_files_say(
    downloads: Path, layout: str, split: str, row_id: str, columns: dict[str, Any]
) -> None:
    row = rows(benchmark(downloads, layout), split)[0]
    assert isinstance(row, Row), row
    assert row.id == row_id
    assert {name: getattr(row, name) for name in columns} == columns
    assert Path(row.images[0]).is_file()


@pytest.mark.parametrize("layout", BENCHMARKS)
def test_every_layout_reads_every_split_and_gives_every_row_an_id_of_its_own(
    downloads: Path, layout: str
) -> None:
    source = benchmark(downloads, layout)
    assert set(source.available_splits()) >= set(BENCHMARKS[layout].splits) - {"test"}
    for split in source.available_splits():
        found = rows(source, split)
        assert all(isinstance(row, Row) for row in found)
        assert split == "trainval" or len({row.id for row in found}) == len(found)
        assert found or split in ("minitrain", "minival")  # of so few rows a share may be none
        assert all(file.exists() for file in source.files(split))


def test_every_layout_has_golden_rows() -> None:
    assert {layout for layout, *_ in ROWS} == set(BENCHMARKS)


def test_a_minival_is_the_end_of_the_training_rows(downloads: Path) -> None:
    source = benchmark(downloads, "docvqa")
    train = [row.id for row in rows(source, "train")]
    assert [row.id for row in rows(source, "minitrain")] == train[:19]
    assert [row.id for row in rows(source, "minival")] == train[19:]
    captions = benchmark(downloads, "coco_captions")
    assert [row.id for row in rows(captions, "train")] == ["0", "1", "2", "3", "4"]


def test_trainval_is_both(downloads: Path) -> None:
    source = benchmark(downloads, "chartqa")
    ids = [row.id for split in ("train", "validation") for row in rows(source, split)]
    assert [row.id for row in rows(source, "trainval")] == ids
    assert len(set(ids)) == 8


def test_halves_of_chartqa_are_mixed_as_large_as_they_are(downloads: Path) -> None:
    found = [row.attributes["half"] for row in rows(benchmark(downloads, "chartqa"), "train")]
    assert found == ["human", *["augmented"] * 3]


def test_rows_are_chosen_by_what_they_are_told_apart_by(downloads: Path) -> None:
    kept = benchmark(downloads, "rsvqa_lr", filter={"question_type": ["comp", "presence"]})
    assert [row.attributes["question_type"] for row in rows(kept, "test")] == ["comp", "presence"]
    human = benchmark(downloads, "chartqa", filter={"half": ["human"]})
    assert [row.id for row in rows(human, "test")] == ["test-human-0"]
    assert [file.name for file in human.files("test")] == ["test_human.json"]
    german = benchmark(downloads, "xm3600", filter={"language": ["quz"]})
    assert [row.language for row in rows(german, "test")] == ["quz"]


def test_a_file_that_is_not_asked_for_need_not_be_there(downloads: Path, tmp_path: Path) -> None:
    write_benchmark("xgqa", tmp_path / "xgqa")
    (tmp_path / "xgqa/zero_shot/testdev_balanced_questions_bn.json").unlink()
    source = Benchmark(layout="xgqa", path=str(tmp_path / "xgqa"), filter={"language": ["de"]})
    assert [row.id for row in rows(source, "test")] == ["20602803-de"]


def test_rotated_images_are_turned_upright(downloads: Path) -> None:
    turned, kept = (
        open_image(rows(benchmark(downloads, "textvqa", **settings), "train")[0].images[0])
        for settings in ({"rotations": "rotation.csv"}, {})
    )
    assert turned.size == kept.size[::-1]
    rotated = np.asarray(turned, int), np.rot90(np.asarray(kept, int))
    assert abs(rotated[0] - rotated[1]).mean() < 2
    [row] = rows(benchmark(downloads, "textvqa", rotations="rotation.csv"), "validation")
    assert row.images[0].endswith("textvqa/train_images/0val.jpg")


def test_coco_text_is_read_in_its_full_size(downloads: Path) -> None:
    row = rows(benchmark(downloads, "stvqa"), "train")[-1]
    assert row.images[0].endswith("stvqa/train2014/COCO_train2014_000000000007.jpg")


def test_diagrams_show_letters_if_the_question_refers_to_letters(downloads: Path) -> None:
    letters, words = rows(benchmark(downloads, "ai2d"), "train")
    assert words.images[0].endswith("ai2d/images/1.png")
    plain, drawn = (np.asarray(open_image(row.images[0])) for row in (words, letters))
    changed = np.argwhere((plain != drawn).any(axis=2))
    assert changed.min(axis=0).tolist() == [2, 2]
    assert changed.max(axis=0).tolist() == [20, 30]
    inside = drawn[2:21, 2:31]
    assert (inside == 255).all(axis=2).mean() > 0.4
    assert inside.min() < 60


def test_images_may_lie_in_another_folder(downloads: Path, tmp_path: Path) -> None:
    folder = write_benchmark("okvqa", tmp_path / "okvqa")
    (folder / "train2014").rename(tmp_path / "coco2014")
    source = Benchmark(layout="okvqa", path=str(folder), images=str(tmp_path / "coco2014"))
    assert len(rows(source, "train")) == 3
    shutil.move(tmp_path / "coco2014", tmp_path / "coco" / "train2014")
    source.images = "../coco"
    assert len(rows(source, "train")) == 3


def test_a_split_may_be_another_file(downloads: Path, tmp_path: Path) -> None:
    folder = write_benchmark("docvqa", tmp_path / "docvqa")
    (folder / "val_v1.0_withQT.json").rename(folder / "mine.json")
    source = Benchmark(layout="docvqa", path=str(folder), splits={"val": "mine.json"})
    assert len(rows(source, "validation")) == 2


def error_of(source: Benchmark, split: str) -> str:
    with pytest.raises(DataError) as caught:
        rows(source, split)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_error_of_a_missing_file_names_the_download_and_the_folder(tmp_path: Path) -> None:
    source = Benchmark(layout="vqav2", path=str(tmp_path))
    write_file(tmp_path / "v2_OpenEnded_mscoco_train2014_questions.json", {"questions": []})
    assert error_of(source, "train") == (
        f"{tmp_path}: split 'train' of vqav2 must have v2_mscoco_train2014_annotations.json, got "
        "'v2_OpenEnded_mscoco_train2014_questions.json'. Download vqav2 from "
        "visualqa.org/download.html; images: cocodataset.org (2014, test2015), or set "
        "data.splits.train=FILE."
    )
    assert error_of(source, "dev") == (
        f"{tmp_path}: split of vqav2 must be one of train, validation, trainval, test, test-dev, "
        "minitrain, minival, got 'dev'."
    )
    source.path = str(tmp_path / "elsewhere")
    assert error_of(source, "train").startswith(
        f"data.path: {tmp_path}/elsewhere does not exist. Download vqav2 from visualqa.org/downlo"
    )


def test_the_error_of_a_missing_image_names_the_download(tmp_path: Path) -> None:
    folder = write_benchmark("gqa", tmp_path / "gqa")
    shutil.rmtree(folder / "images")
    [bad] = rows(Benchmark(layout="gqa", path=str(folder)), "train")
    assert str(bad) == (
        f"{folder}/train_balanced_questions.json, 1: image must be at "
        f"{folder}/images/2405722.jpg or {folder}/2405722.jpg, got none. Download it from "
        "cs.stanford.edu/people/dorarad/gqa/download.html, or set data.images=FOLDER."
    )


@pytest.mark.parametrize(
    ("layout", "file", "content", "why"),
    [
        ("docvqa", "train_v1.0_withQT.json", [], "file must contain a list under 'da"),
        ("docvqa", "train_v1.0_withQT.json", "{", "file must be JSON ("),
        ("gqa", "train_balanced_questions.json", [], "file must be an object of records."),
        ("aokvqa_da", "aokvqa_v1p0_train.json", {}, "file must contain a list."),
        ("pope", "coco_pope_random.json", "{}\n{", "line must be JSON ("),
        ("scicap", "SciCap-Caption-All/train/1001.trainv1-Figure2-1.json", {},
         "record must have the format of scicap, got KeyError"),
        ("icdar15", "ch4_training_localization_transcription_gt/gt_img_1.txt", "1,2,3",
         "line must be an outline and a word ("),
        ("total_text", "Groundtruth/Polygon/Train/poly_gt_img11.txt", "x: [[1]]",
         "line must be an outline and a word ("),
        ("countbenchqa", "countbench_paired_questions.json", [],
         "table must have 0 rows, one per question, got 2"),
        ("scienceqa", "problems.json", {"1": {"split": "train"}},
         "record must have the format of sci"),
    ],
)  # fmt: skip
def test_a_file_of_another_version_is_an_error(
    tmp_path: Path, layout: str, file: str, content: Any, why: str
) -> None:
    folder = write_benchmark(layout, tmp_path / layout)
    write_file(folder / file, content)
    source = Benchmark(layout=layout, path=str(folder))
    split = "test" if layout in ("pope", "countbenchqa") else "train"
    assert why in error_of(source, split)


@pytest.mark.parametrize(
    "changed", [{"question": None}, {"questionId": None}, {"image": 7}, "text"]
)
def test_a_record_in_another_format_is_an_error(tmp_path: Path, changed: Any) -> None:
    folder = write_benchmark("docvqa", tmp_path / "docvqa")
    file = folder / "val_v1.0_withQT.json"
    content = json.loads(file.read_text())
    if isinstance(changed, dict):
        (name,) = changed
        if changed[name] is None:
            del content["data"][0][name]
        else:
            content["data"][0] |= changed
    else:
        content["data"][0] = changed
    write_file(file, content)
    bad, good = rows(Benchmark(layout="docvqa", path=str(folder)), "validation")
    assert isinstance(bad, DataError)
    assert str(bad).startswith(f"{file}, ")
    assert isinstance(good, Row)


def test_a_missing_or_invalid_rotation_file_is_an_error(tmp_path: Path) -> None:
    folder = write_benchmark("textvqa", tmp_path / "textvqa")
    source = Benchmark(layout="textvqa", path=str(folder), rotations="rotation.csv")
    write_file(folder / "train_images/rotation.csv", "a,b\n1,2\n")
    assert "must have the columns ImageID and Rotation, got a, b." in str(rows(source, "train")[0])
    (folder / "train_images/rotation.csv").unlink()
    assert "train_images/rotation.csv does not exist. Download {train,test}-im" in str(
        rows(source, "train")[0]
    )


def test_a_widget_without_area_is_an_error(tmp_path: Path) -> None:
    folder = write_benchmark("widgetcap", tmp_path / "widgetcap")
    leaf = {"bounds": [10, 10, 10, 20]}
    root = {"children": [{}, {"children": [leaf]}]}
    write_file(folder / "combined/0.json", {"activity": {"root": root}})
    [bad] = rows(Benchmark(layout="widgetcap", path=str(folder)), "train")
    assert "widget 0.1.0 must have an area, got the bounds [10, 10, 10, 20]." in str(bad)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"layout": "docvqq"}, r"data.layout must be one of docvqa, infovqa, .* got 'docvqq'"),
        (
            {"layout": "pope", "filter": {"half": ["x"]}},
            r"data.filter must use the attributes of pope \(kind\), got 'half'",
        ),
        (
            {"layout": "docvqa", "filter": {"a": ["x"]}},
            r"data.filter must use the attributes of docvqa \(none\), got 'a'",
        ),
    ],
)
def test_an_invalid_setting_is_an_error(settings: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Benchmark(path="x", **settings)


def test_a_fraction_of_train_can_be_held_out(downloads: Path) -> None:
    source = benchmark(downloads, "stvqa", validation_fraction=0.5)
    held_out, kept = (
        {row.images[0] for row in rows(source, split)} for split in ("validation", "train")
    )
    assert held_out
    assert kept
    assert not held_out & kept
    assert len(held_out | kept) == 31


def test_the_image_format_is_kept(downloads: Path) -> None:
    with Image.open(rows(benchmark(downloads, "rsvqa_lr"), "test")[0].images[0]) as image:
        assert image.format == "TIFF"


def test_frames_are_those_of_the_video_segment(tmp_path: Path) -> None:
    folder = write_benchmark("activitynet_captions", tmp_path / "activitynet")
    frames = VideoSampling(count=3, stride=2)
    data = Benchmark(layout="activitynet_captions", path=str(folder), frames=frames)
    first, second = data.rows("train")
    assert isinstance(first, Row)
    assert isinstance(second, Row)
    assert [frame_index(image) for image in first.images] == [0, 2, 4]
    assert second.captions == ("He falls.",)  # from 1.1 back to 0.6 seconds
    assert [frame_index(image) for image in second.images] == [6, 8, 10]


def test_a_missing_video_is_an_error(tmp_path: Path) -> None:
    folder = write_benchmark("msvd_qa", tmp_path / "msvd")
    shutil.rmtree(folder / "YouTubeClips")
    [row] = Benchmark(layout="msvd_qa", path=str(folder)).rows("test")
    assert ": video must be at " in str(row)
    assert "YouTubeClips/-4wsuPCjDBc_5_15.mp4" in str(row)


def test_open_questions_have_no_choices(tmp_path: Path) -> None:
    folder = write_benchmark("mathvista", tmp_path / "mathvista")
    only = {"question_type": ["free_form"]}
    [row] = Benchmark(layout="mathvista", path=str(folder), filter=only).rows("testmini")
    assert isinstance(row, Row)
    assert (row.answers, row.choices) == (("1.2",), None)
