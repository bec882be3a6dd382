"""Miniatures of benchmarks: their official files, with a few invented records and drawn images.

`write_benchmark("docvqa", folder)` writes the files of an unpacked download; every split has at
least one record.
"""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from palitune.data.benchmarks.exams import EXAM_BENCHMARKS

from support.videos import write_video

SIZE = (64, 48)


def draw_image(file: Path, size: tuple[int, int] = SIZE) -> None:
    """Draw an image that differs from file to file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    shade = sum(file.name.encode()) % 200
    image = Image.new("RGB", size, (shade, 120, 220 - shade))
    ImageDraw.Draw(image).rectangle((8, 6, 40, 30), fill="yellow")
    image.save(file)


def write_file(file: Path, content: Any) -> None:
    """Write text as it is, anything else as JSON."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def write_jsonl(file: Path, records: list[Any]) -> None:
    write_file(file, "".join(json.dumps(record) + "\n" for record in records))


def write_csv(file: Path, *rows: list[str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="") as content:
        csv.writer(content).writerows(rows)


def write_parquet(file: Path, records: list[dict[str, Any]]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    file.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.Table.from_pylist(records), file)


def docvqa(folder: Path) -> None:
    for split, suffix in (("train", "_withQT"), ("val", "_withQT"), ("test", "")):
        records: list[Any] = []
        for number in range(20 if split == "train" else 2):
            page = f"documents/{split}{number}_1.png"
            draw_image(folder / split / page)
            record = {"questionId": 100 + number, "question": f"What is the date? {number}",
                      "docId": 3, "image": page, "data_split": split}  # fmt: skip
            answers = {} if split == "test" else {"answers": ["Jan. 7", "January 7"]}
            records.append(record | answers)
        write_file(
            folder / f"{split}_v1.0{suffix}.json", {"dataset_name": "docvqa", "data": records}
        )


def infovqa(folder: Path) -> None:
    for split, suffix in (("train", ""), ("val", "_withQT"), ("test", "")):
        draw_image(folder / f"images/{split}.jpeg")
        record = {"questionId": 65718, "question": "Which two are shown?",
                  "image_local_name": f"{split}.jpeg", "image_url": "https://a/b"}  # fmt: skip
        answers = {} if split == "test" else {"answers": ["Red, Blue", "30%"]}
        write_file(
            folder / f"infographicsVQA_{split}_v1.0{suffix}.json", {"data": [record | answers]}
        )


def stvqa(folder: Path) -> None:
    draw_image(folder / "train2014/COCO_train2014_000000000007.jpg")
    records: list[Any] = []
    for number in range(30):
        name = f"icdar/img_{number}.jpg"
        draw_image(folder / "train_images" / name)
        records.append({"question": "What does the sign say?", "dataset": "icdar",
                        "file_path": name, "answers": ["STOP", "Stop Sign"],
                        "question_id": number})  # fmt: skip
    records.append({"question": "Where?", "dataset": "coco-text", "question_id": 99,
                    "file_path": "coco-text/COCO_train2014_000000000007.jpg",
                    "answers": ["Bern"]})  # fmt: skip
    write_file(folder / "train_task_3.json", {"dataset": "st-vqa", "data": records})
    draw_image(folder / "test_task3_images/a.jpg")
    write_file(folder / "test_task_3.json", {"data": [
        {"question": "Who?", "dataset": "vizwiz", "file_path": "a.jpg", "question_id": 1}
    ]})  # fmt: skip


def textvqa(folder: Path) -> None:
    for split in ("train", "val", "test"):
        image = f"0{split}"
        images = "test_images" if split == "test" else "train_images"
        draw_image(folder / images / f"{image}.jpg")
        record = {"question": "what brand is it?", "image_id": image, "question_id": 34602,
                  "image_classes": ["Clock"], "set_name": split}  # fmt: skip
        answers = {} if split == "test" else {"answers": ["Nokia"] * 6 + ["nokia"] * 3 + [""]}
        write_file(folder / f"TextVQA_0.5.1_{split}.json", {"data": [record | answers]})
    header = ["ImageID", "Subset", "Rotation"]
    rows = [["0train", "train", "90.0"], ["0val", "train", ""]]
    write_csv(folder / "train_images/rotation.csv", header, *rows)
    write_csv(folder / "test_images/rotation.csv", header, ["0test", "test", "0.0"])


def _coco_questions(folder: Path, prefix: str, kinds: dict[str, str]) -> None:
    for year in ("train2014", "val2014"):
        questions, annotations = [], []
        for number in range(100, 103) if year == "val2014" else range(3):
            draw_image(folder / f"{year}/COCO_{year}_{number:012d}.jpg")
            key = 10 * number + 1
            questions.append(
                {"image_id": number, "question": "What colour is it?", "question_id": key}
            )
            answers = [
                {"answer": text, "raw_answer": f"{text}!", "answer_confidence": "yes",
                 "answer_id": n} for n, text in enumerate(["Red"] * 7 + ["red"] * 3, 1)
            ]  # fmt: skip
            annotations.append({"image_id": number, "question_id": key, "answers": answers} | kinds)
        name = f"{prefix}OpenEnded_mscoco_{year}_questions.json"
        write_file(folder / name, {"info": {}, "questions": questions})
        name = f"{prefix}mscoco_{year}_annotations.json"
        write_file(folder / name, {"annotations": annotations[::-1]})


def vqav2(folder: Path) -> None:
    kinds = {"question_type": "what color", "answer_type": "other", "multiple_choice_answer": "red"}
    _coco_questions(folder, "v2_", kinds)
    draw_image(folder / "test2015/COCO_test2015_000000000001.jpg")
    question = {"image_id": 1, "question": "Is it?", "question_id": 1000}
    for year in ("test2015", "test-dev2015"):
        write_file(folder / f"v2_OpenEnded_mscoco_{year}_questions.json", {"questions": [question]})


def okvqa(folder: Path) -> None:
    _coco_questions(folder, "", {"question_type": "eight", "answer_type": "other"})


def aokvqa(folder: Path) -> None:
    for split in ("train", "val", "test"):
        draw_image(folder / f"{split}2017/000000299207.jpg")
        record: dict[str, Any] = {
            "split": split, "image_id": 299207, "question_id": "22MexNkBPpdZGX6sxbxVBH",
            "question": "What is the man doing?", "choices": ["ride", "shop", "hit", "pass"],
            "difficult_direct_answer": False,
        }  # fmt: skip
        if split != "test":
            record |= {"correct_choice_idx": 2, "direct_answers": ["hit"] * 8 + ["play"] * 2}
        write_file(folder / f"aokvqa_v1p0_{split}.json", [record])


def vizwiz(folder: Path) -> None:
    for split in ("train", "val", "test"):
        name = f"VizWiz_{split}_00000000.jpg"
        draw_image(folder / split / name)
        record: dict[str, Any] = {"image": name, "question": "What is this?"}
        if split != "test":
            answers = [{"answer": text, "answer_confidence": "yes"}
                       for text in ["unanswerable"] * 4 + ["Can"] * 5 + [""]]  # fmt: skip
            record |= {"answers": answers, "answer_type": "other", "answerable": 1}
        write_file(folder / f"annotations/{split}.json", [record])


def _gqa_questions(text: str, key: str = "20602803") -> dict[str, Any]:
    return {
        key: {
            "semantic": [{"operation": "select"}], "imageId": "2405722", "question": text,
            "answer": "no", "fullAnswer": "No, there are none.", "isBalanced": True,
            "types": {"detailed": "existAttrC", "semantic": "attr", "structural": "verify"},
        }
    }  # fmt: skip


def gqa(folder: Path) -> None:
    draw_image(folder / "images/2405722.jpg")
    for key, split in (("1", "train"), ("2", "val"), ("20602803", "testdev")):
        write_file(
            folder / f"{split}_balanced_questions.json", _gqa_questions("Are there horses?", key)
        )


def xgqa(folder: Path) -> None:
    draw_image(folder / "images/2405722.jpg")
    for language in ("bn", "de", "en", "id", "ko", "pt", "ru", "zh"):
        name = f"zero_shot/testdev_balanced_questions_{language}.json"
        write_file(folder / name, _gqa_questions(f"({language}) Gibt es Pferde?"))


def tallyqa(folder: Path) -> None:
    for name in ("train2014/COCO_train2014_000000000025.jpg", "VG_100K/2.jpg"):
        draw_image(folder / name)
    record = {"image": "train2014/COCO_train2014_000000000025.jpg", "answer": 3, "image_id": 25,
              "data_source": "imported_vqa", "question": "How many?", "question_id": 1}  # fmt: skip
    write_file(folder / "train.json", [record])
    write_file(folder / "test.json", [
        record | {"image": "VG_100K/2.jpg", "image_id": 2, "question_id": n, "issimple": n == 0}
        for n in range(2)
    ])  # fmt: skip


def countbenchqa(folder: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    draw_image(folder / "drawn.jpg")
    image = {"bytes": (folder / "drawn.jpg").read_bytes(), "path": None}
    rows = [{"image": image, "text": "four pigs", "number": 4, "image_url": "u"},
            {"image": None, "text": "two cars", "number": 2, "image_url": "v"}]  # fmt: skip
    parquet.write_table(pa.Table.from_pylist(rows), folder / "train-00000-of-00001.parquet")
    questions = ["How many pigs are there in the image?", "How many cars are there in the image?"]
    write_file(
        folder / "countbench_paired_questions.json", [{"question": text} for text in questions]
    )


def scienceqa(folder: Path) -> None:
    problems = {}
    for number, split in enumerate(("train", "val", "test", "train")):
        problems[str(number)] = {
            "question": "Which force is it?", "choices": ["push", "pull"], "answer": 1,
            "hint": "" if split == "train" else "Look at the hand.", "split": split,
            "image": "image.png" if number < 3 else None, "subject": "natural science",
            "lecture": "A force ...",
        }  # fmt: skip
        if number < 3:
            draw_image(folder / f"{split}/{number}/image.png")
    write_file(folder / "problems.json", problems)


def ai2d(folder: Path) -> None:
    for number in (1, 2):
        name = f"{number}.png"
        draw_image(folder / "images" / name)
        questions = {
            "Which letter is the leaf?": {
                "abcLabel": True, "answerTexts": ["A", "B"], "correctAnswer": 1,
                "questionId": f"{name}-0",
            },
            "What is shown?": {
                "abcLabel": False, "answerTexts": ["A Leaf", "a root"], "correctAnswer": 0,
                "questionId": f"{name}-1",
            },
        }  # fmt: skip
        write_file(folder / f"questions/{name}.json", {"imageName": name, "questions": questions})
        text = {"rectangle": [[2, 2], [30, 20]], "value": "leaf", "replacementText": "B"}
        write_file(folder / f"annotations/{name}.json", {"text": {"T0": text}})
    write_file(folder / "ai2d_test_ids.csv", "2\n")


def chartqa(folder: Path) -> None:
    for split in ("train", "val", "test"):
        for half, count in (("human", 1), ("augmented", 3)):
            records = []
            for number in range(count):
                name = f"{half}{number}.png"
                draw_image(folder / split / "png" / name)
                records.append({"imgname": name, "query": "What is the Peak?", "label": "41.5%"})
            write_file(folder / split / f"{split}_{half}.json", records)


def ocrvqa(folder: Path) -> None:
    books = {}
    for number in (1, 2, 3):
        draw_image(folder / f"images/000{number}.jpg")
        books[f"000{number}"] = {
            "imageURL": f"http://a/I/51{number}.jpg", "title": "Mom's Guide", "split": number,
            "questions": ["Who wrote this book?", "Is this a cook book?"],
            "answers": ["Sandra", "No"], "genre": "Calendars",
        }  # fmt: skip
    write_file(folder / "dataset.json", books)


def _remote_sensing(folder: Path, images: str, ending: str, *prefixes: str) -> None:
    draw_image(folder / images / f"5{ending}")
    kinds = {"comp": "Yes", "presence": "no", "rural_urban": "Rural", "count": "7", "area": "0m2"}
    for start, prefix in enumerate(prefixes):
        questions: list[Any] = [{"id": 90, "active": False}]
        answers: list[Any] = [{"id": 90, "active": False}]
        for number, (kind, answer) in enumerate(kinds.items(), 10 * start):
            question = {"id": number, "img_id": 5, "type": kind, "question": f"Is it {kind}?"}
            questions.append(question | {"answers_ids": [number + 50], "active": True})
            replied = {"id": number + 50, "question_id": number, "answer": answer}
            answers.append(replied | {"active": True})
        write_file(folder / f"{prefix}_questions.json", {"questions": questions})
        write_file(folder / f"{prefix}_answers.json", {"answers": answers})


def rsvqa_lr(folder: Path) -> None:
    splits = (f"LR_split_{split}" for split in ("train", "val", "test"))
    _remote_sensing(folder, "Images_LR", ".tif", *splits)


def rsvqa_hr(folder: Path) -> None:
    splits = (f"USGS_split_{split}" for split in ("train", "val", "test", "test_phili"))
    _remote_sensing(folder, "Data", ".tif", *splits)


def pope(folder: Path) -> None:
    name = "COCO_val2014_000000310196.jpg"
    draw_image(folder / "val2014" / name)
    record = {"question_id": 1, "image": name, "text": "Is there a cup in the image?"}
    for kind in ("random", "popular", "adversarial"):
        write_jsonl(folder / f"coco_pope_{kind}.json", [record | {"label": "yes"}])


def vsr(folder: Path) -> None:
    draw_image(folder / "images/000000085637.jpg")
    record = {"image": "000000085637.jpg", "caption": "The plant is left of the bench.",
              "relation": "left of", "image_link": "http://a"}  # fmt: skip
    for split in ("train", "dev", "test"):
        write_jsonl(folder / f"{split}.jsonl", [record | {"label": 1}, record | {"label": 0}])


def coco_captions(folder: Path) -> None:
    images = []
    for number, split in enumerate(["train"] * 4 + ["restval", "val", "test"]):
        year = "train2014" if split == "train" else "val2014"
        name = f"COCO_{year}_{number:012d}.jpg"
        draw_image(folder / year / name)
        captions = [{"raw": f"A Red boat. {n}", "tokens": ["a"], "sentid": n} for n in range(5)]
        images.append({
            "filepath": year, "filename": name, "cocoid": number, "split": split,
            "sentences": captions,
        })  # fmt: skip
    write_file(folder / "dataset_coco.json", {"images": images, "dataset": "coco"})


def coco35l(folder: Path) -> None:
    for number, year, split in ((57870, "train2014", "train"), (391895, "val2014", "dev")):
        draw_image(folder / f"{year}/COCO_{year}_{number:012d}.jpg")
        records = [
            {"image_id": f"{number}_{n}", "caption_tokenized": f"A boat {n}", "src_lang": "en",
             "trg_lang": language, "translation_tokenized": f"{language} Boot {n}"}
            for n in range(2) for language in ("de", "th")
        ]  # fmt: skip
        write_jsonl(folder / f"coco_mt_{split}.jsonl", records)


def xm3600(folder: Path) -> None:
    draw_image(folder / "images/000411001ff7dd4f.jpg")
    record = {"image/key": "000411001ff7dd4f", "image/locale": "de",
              "en": {"caption": ["A boat."], "caption/tokenized": ["A boat ."]},
              "quz": {"caption": ["Wampu.", "Huk wampu."]}}  # fmt: skip
    write_jsonl(folder / "captions.jsonl", [record])


def nocaps(folder: Path) -> None:
    images = [{"id": 4, "file_name": "0013ea2087020901.jpg", "domain": "near-domain"}]
    draw_image(folder / "validation/0013ea2087020901.jpg")
    captions = [{"image_id": 4, "id": n, "caption": f"A baby {n}."} for n in range(10)]
    content = {"images": images, "annotations": captions}
    write_file(folder / "nocaps_val_4500_captions.json", content)
    draw_image(folder / "test/0013ea2087020901.jpg")
    write_file(folder / "nocaps_test_image_info.json", {"images": images})


def textcaps(folder: Path) -> None:
    for split in ("train", "val", "test"):
        image = f"0{split}"
        draw_image(folder / ("test_images" if split == "test" else "train_images") / f"{image}.jpg")
        caption = {} if split == "test" else {"caption_str": "A Nokia phone", "reference_strs": []}
        record = {"image_id": image, "image_name": image, "image_path": "x"} | caption
        second = record | ({"caption_str": "A PHONE."} if caption else {})
        write_file(folder / f"TextCaps_0.1_{split}.json", {"data": [record, second]})


def scicap(folder: Path) -> None:
    for split in ("train", "val", "test"):
        figure = f"1001.{split}v1-Figure2-1"
        draw_image(folder / f"SciCap-No-Subfig-Img/{split}/{figure}.png")
        lists = "List-of-Files-for-Each-Experiments/First-Sentence/No-Subfig"
        write_file(folder / f"{lists}/{split}/file_idx.json", [f"{figure}.png"])
        write_file(folder / f"SciCap-Caption-All/{split}/{figure}.json", {
            "figure-type": "Graph Plot", "0-originally-extracted": "Figure 2: The Curve.",
            "1-lowercase-and-token-and-remove-figure-index": {"caption": "the curve ."},
        })  # fmt: skip


def screen2words(folder: Path) -> None:
    rows = []
    for number, split in enumerate(("train", "dev", "test")):
        draw_image(folder / f"combined/{number}.jpg")
        write_file(folder / f"split/{split}_screens.txt", f"{number}\n")
        rows += [[str(number), f"screen of an app, {n}"] for n in range(5)]
    write_csv(folder / "screen_summaries.csv", ["screenId", "summary"], *rows)


def widgetcap(folder: Path) -> None:
    rows = []
    for number, split in enumerate(("train", "dev", "test")):
        draw_image(folder / f"combined/{number}.jpg", (36, 64))
        leaf = {"bounds": [360, 640, 720, 1280], "class": "Button"}
        root = {"bounds": [0, 0, 1440, 2560], "children": [{}, {"children": [leaf]}]}
        write_file(folder / f"combined/{number}.json", {"activity": {"root": root}})
        write_file(folder / f"split/{split}.txt", f"{number}\n")
        rows.append([str(number), "0.1.0", "go back|return to the last page"])
    write_csv(folder / "widget_captions.csv", ["screenId", "nodeId", "captions"], *rows)


def docci(folder: Path) -> None:
    records = []
    for split in ("train", "test", "qual_dev", "qual_test"):
        draw_image(folder / f"images/{split}_00000.jpg")
        records.append({"example_id": f"{split}_00000", "split": split,
                        "image_file": f"{split}_00000.jpg",
                        "description": "An indoor angled view of a boat."})  # fmt: skip
    write_jsonl(folder / "docci_descriptions.jsonlines", records)


def icdar15(folder: Path) -> None:
    places = {"ch4_training_images": "ch4_training_localization_transcription_gt",
              "ch4_test_images": "Challenge4_Test_Task4_GT"}  # fmt: skip
    for images, words in places.items():
        draw_image(folder / images / "img_1.jpg")
        lines = ["\ufeff10,5,30,4,31,12,9,13,Genaxis, Theatre", "40,20,60,20,60,30,40,30,###"]
        write_file(folder / words / "gt_img_1.txt", "\r\n".join(lines) + "\r\n")


def total_text(folder: Path) -> None:
    for split in ("Train", "Test"):
        draw_image(folder / f"Images/{split}/img11.jpg")
        words = [
            "x: [[10 20 30 28]], y: [[ 5  4 12 14]], ornt: [u'c'], transcriptions: [u'PETROSAINS']",
            "x: [[40 50 50 40]], y: [[20 20 30 30]], ornt: [u'#'], transcriptions: [u'#']",
        ]
        write_file(
            folder / f"Groundtruth/Polygon/{split}/poly_gt_img11.txt", "\n".join(words) + "\n"
        )


def refcoco(folder: Path) -> None:
    """Write the three sets; the object of image 2 is in train of one and in a test of another."""
    for number in range(4):
        draw_image(folder / f"train2014/COCO_train2014_{number:012d}.jpg")
    instances = {
        "images": [{"id": n, "file_name": f"COCO_train2014_{n:012d}.jpg"} for n in range(4)],
        "annotations": [
            {"id": 10 + n, "image_id": n, "category_id": 3, "bbox": [8, 6, 32, 24],
             "segmentation": [[8, 6, 40, 6, 40, 30, 8, 30]]} for n in range(4)
        ],
        "categories": [{"id": 3, "name": "boat"}],
    }  # fmt: skip
    held_out = {"refcoco": ("val", "testA", "testB"), "refcocoplus": ("val", "testA", "testB"),
                "refcocog": ("val", "test")}  # fmt: skip
    for name, splits in held_out.items():
        image_of = {"train": 0, **dict.fromkeys(splits, 1)}
        refs = [_ref(n, image_of[split], split) for n, split in enumerate(image_of)]
        refs.append(_ref(90, 2, "train"))
        if name == "refcocog":
            refs.append(_ref(91, 2, "test"))
        write_file(folder / name / "instances.json", instances)
        write_file(folder / name / "refs.json", refs)


def _ref(number: int, image: int, split: str) -> dict[str, Any]:
    sentences = [{"sent_id": 2 * number + n, "sent": f"the left boat {n}"} for n in range(2)]
    return {"ref_id": number, "ann_id": 10 + image, "image_id": image, "split": split,
            "sentences": sentences}  # fmt: skip


def coco_detection(folder: Path) -> None:
    for year in ("train2017", "val2017"):
        draw_image(folder / year / "000000000007.jpg")
        write_file(folder / f"annotations/instances_{year}.json", _boxes("000000000007.jpg"))


def doclaynet(folder: Path) -> None:
    for split in ("train", "val", "test"):
        draw_image(folder / f"PNG/{split}.png")
        write_file(folder / f"COCO/{split}.json", _boxes(f"{split}.png"))


def _boxes(name: str) -> dict[str, Any]:
    return {
        "images": [{"id": 7, "file_name": name, "width": SIZE[0], "height": SIZE[1]}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 2, "bbox": [8, 6, 32, 24],
                         "iscrowd": 0, "area": 768}],
        "categories": [{"id": 1, "name": "table"}, {"id": 2, "name": "text"}],
    }  # fmt: skip


def ade20k(folder: Path) -> None:
    for split in ("training", "validation"):
        draw_image(folder / f"images/{split}/ADE_00000001.jpg")
        pixels = Image.new("L", SIZE, 0)
        ImageDraw.Draw(pixels).rectangle((8, 6, 40, 30), fill=2)
        file = folder / f"annotations/{split}/ADE_00000001.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels.save(file)
    write_file(folder / "classes.txt", "wall\nbuilding\n")


def forkme(folder: Path) -> None:
    draw_image(folder / "a.jpg")
    for split in ("train", "validation"):
        record = {"image": "a.jpg", "prefix": "caption en", "suffix": "A red boat."}
        write_jsonl(folder / f"{split}.jsonl", [record])


def nlvr2(folder: Path) -> None:
    for split, images in (("train", "train/7"), ("dev", "dev"), ("test1", "test1")):
        record = {"identifier": f"{split}-3-0-1", "sentence": "Both dogs are black.",
                  "label": "False", "left_url": "a/b", "right_url": "a/c"}  # fmt: skip
        for number in (0, 1):
            draw_image(folder / f"images/{images}/{split}-3-0-img{number}.png")
        write_jsonl(
            folder / f"{split}.json", [record | ({"directory": 7} if "/" in images else {})]
        )


def marvl(folder: Path) -> None:
    for language in ("id", "sw", "ta", "tr", "zh"):
        record = {"concept": "39-çay", "language": language, "caption": "Gambar kiri.",
                  "left_img": "39-0.jpg", "right_img": "39-1.jpg", "chapter": "Food",
                  "id": f"{language}-0", "label": True}  # fmt: skip
        for side in ("left_img", "right_img"):
            draw_image(folder / f"{language}/images/39-c\u0327ay/{record[side]}")
        write_jsonl(folder / f"{language}/annotations/marvl-{language}.jsonl", [record])


def activitynet_captions(folder: Path) -> None:
    for file in ("train", "val_1", "val_2"):
        write_video(folder / f"videos/v_{file}.mp4", 12)
        video = {"duration": 1.2, "timestamps": [[0, 0.5], [1.1, 0.6]],
                 "sentences": ["A man runs.", " He falls."]}  # fmt: skip
        write_file(folder / f"{file}.json", {f"v_{file}": video})


def activitynet_qa(folder: Path) -> None:
    for split in ("train", "val", "test"):
        write_video(folder / f"videos/v_{split}.mp4", 4)
        question = {"video_name": split, "question": "is he wet", "question_id": f"{split}_1"}
        write_file(folder / f"{split}_q.json", [question])
        answer = {"answer": "yes", "type": 3, "question_id": f"{split}_1"}
        write_file(folder / f"{split}_a.json", [answer])


def msrvtt_captions(folder: Path) -> None:
    for file, splits in (("train_val", ("train", "validate")), ("test", ("test",))):
        videos, sentences = [], []
        for split in splits:
            number = ("train", "validate", "test").index(split)
            name = f"video{number}"
            where = "TestVideo" if split == "test" else "TrainValVideo"
            write_video(folder / where / f"{name}.mp4", 4)
            videos.append({"id": number, "video_id": name, "split": split, "category": 9})
            sentences += [{"caption": f"a car {n}", "video_id": name, "sen_id": n} for n in (0, 1)]
        write_file(
            folder / f"{file}_videodatainfo.json", {"videos": videos, "sentences": sentences}
        )


def msrvtt_qa(folder: Path) -> None:
    for number, split in enumerate(("train", "val", "test")):
        write_video(folder / f"TrainValVideo/video{number}.mp4", 4)
        question = {"id": number, "video_id": number, "category_id": 14,
                 "question": "what is a man doing?", "answer": "singing"}  # fmt: skip
        write_file(folder / f"{split}_qa.json", [question])


def msvd_qa(folder: Path) -> None:
    write_video(folder / "YouTubeClips/-4wsuPCjDBc_5_15.avi", 4)
    write_file(folder / "youtube_mapping.txt", "-4wsuPCjDBc_5_15 vid1\n")
    for number, split in enumerate(("train", "val", "test")):
        question = {"id": number, "video_id": 1, "question": "who eats?", "answer": "squirrel"}
        write_file(folder / f"{split}_qa.json", [question])


def vatex(folder: Path) -> None:
    captions = [f"A baby laughs {n}." for n in range(10)]
    for name in ("training_v1.0", "validation_v1.0", "public_test_english_v1.1"):
        video = f"{name.split('_')[0]}_000122_000132"
        write_video(folder / f"videos/{video}.mp4", 4)
        record = {"videoID": video, "enCap": captions, "chCap": ["x"]}
        write_file(folder / f"vatex_{name}.json", [record])


def _hub_image(folder: Path, name: str) -> Any:
    """Return an image as tables of the hub hold it."""
    draw_image(folder / name)
    content = (folder / name).read_bytes()
    (folder / name).unlink()
    return {"bytes": content, "path": name}


def mmmu(folder: Path) -> None:
    images = {f"image_{number}": _hub_image(folder, f"{number}.png") for number in (1, 2)}
    images |= {f"image_{number}": None for number in range(3, 8)}
    for subject in EXAM_BENCHMARKS["mmmu"].splits["validation"]:
        name = subject.metadata["subject"]
        for split in ("dev", "validation"):
            record = {
                "id": f"{split}_{name}_1", "question": "Which <image 1> fits <image 2>?",
                "options": "['push', 'pull']", "answer": "B", "question_type": "multiple-choice",
            }  # fmt: skip
            write_parquet(folder / f"{name}/{split}-00000-of-00001.parquet", [record | images])


def mathvista(folder: Path) -> None:
    kept = {"decoded_image": _hub_image(folder, "1.png"), "image": "images/1.png"}
    choices = {"question": "Which is longer?", "choices": ["AB", "CD"], "answer": "CD",
               "question_type": "multi_choice", "answer_type": "text"}  # fmt: skip
    free = {"question": "How long is it?", "choices": None, "answer": "1.2",
            "question_type": "free_form", "answer_type": "float"}  # fmt: skip
    records = [{"pid": str(n)} | one | kept for n, one in enumerate((choices, free), 1)]
    write_parquet(folder / "testmini-00000-of-00001.parquet", records)


def pubtabnet(folder: Path) -> None:
    structure = [
        "<tr>",
        "<td>",
        "</td>",
        "<td",
        ' colspan="2"',
        ">",
        "</td>",
        "<td>",
        "</td>",
        "</tr>",
    ]
    cells = [{"tokens": ["<b>", "n", "</b>"], "bbox": [8, 6, 40, 30]}, {"tokens": []},
             {"tokens": list("<5"), "bbox": [40, 30, 64, 48]}]  # fmt: skip
    records = []
    for number, split in enumerate(("train", "val", "test")):
        draw_image(folder / split / f"PMC{number}.png")
        records.append({"filename": f"PMC{number}.png", "split": split, "imgid": number,
                        "html": {"structure": {"tokens": structure}, "cells": cells}})  # fmt: skip
    write_jsonl(folder / "PubTabNet_2.0.0.jsonl", records)


def molecules(folder: Path) -> None:
    names = ["uspto_mol/train_680k", "synthetic/chemdraw", "synthetic/indigo"]
    for name in (*names, *(f"real/{real}" for real in ("acs", "clef", "staker", "uob", "uspto"))):
        draw_image(folder / name / "0.png")
        write_csv(
            folder / f"{name}.csv",
            ["image_id", "file_path", "SMILES"],
            ["7", f"elsewhere/{name}/0.png", "C1=CC=CC=C1O"],
        )


def grandstaff(folder: Path) -> None:
    for name in ("original_m-0-4", "maj2_down_m-0-4"):
        file = folder / f"chopin/mazurkas/mazurka06-1/{name}"
        draw_image(file.with_suffix(".jpg"))
        write_file(file.with_suffix(".krn"), "**kern\t**kern\n4c\t4e 4g\n*-\t*-\n")


WRITERS: dict[str, Callable[[Path], None]] = {
    writer.__name__: writer
    for writer in (
        docvqa, infovqa, stvqa, textvqa, vqav2, okvqa, vizwiz, gqa, xgqa, tallyqa, countbenchqa,
        scienceqa, ai2d, chartqa, ocrvqa, rsvqa_lr, rsvqa_hr, pope, vsr, coco_captions, coco35l,
        xm3600, nocaps, textcaps, scicap, screen2words, widgetcap, docci, icdar15, total_text,
        refcoco, coco_detection, doclaynet, ade20k, forkme, nlvr2, marvl,
        activitynet_captions, activitynet_qa, msrvtt_captions, msrvtt_qa, msvd_qa, vatex, mmmu,
        mathvista, pubtabnet, molecules, grandstaff,
    )
}  # fmt: skip
WRITERS |= {"aokvqa_da": aokvqa, "aokvqa_mc": aokvqa}


def write_benchmark(name: str, folder: Path) -> Path:
    """Write the miniature of a benchmark, unless it is there already; return its folder."""
    if not folder.exists():
        folder.mkdir(parents=True)
        WRITERS[name](folder)
    return folder
