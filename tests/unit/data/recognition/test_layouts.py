"""Recognition: the format and task of a folder from the names and starts of its files."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from palitune.data.recognition.layouts import Layout, recognize, split_of
from palitune.data.recognition.listing import Listing, list_folder
from palitune.data.recognition.resolve import choose_layout
from palitune.errors import DataError

Files = dict[str, str]

COCO = json.dumps(
    {"info": {}, "images": [{"id": 1, "file_name": "a.jpg"}], "categories": [{"id": 1}],
     "annotations": [{"id": 1, "image_id": 1, "bbox": [1, 2, 3, 4], "segmentation": []}]}
)  # fmt: skip
COCO_MASKS = COCO.replace('"segmentation": []', '"segmentation": [[1, 2, 3, 4, 5, 6]]')
CAPTIONS = json.dumps(
    {"images": [{"id": 1}], "annotations": [{"id": 1, "image_id": 1, "caption": "a boat"}]}
)
VOC = "<annotation><filename>a.jpg</filename><object><name>boat</name></object></annotation>"
CVAT = '<?xml version="1.0"?><annotations><image name="a.jpg"><box label="a" /></image>'
LABELME = json.dumps({"version": "5", "flags": {}, "shapes": [{"shape_type": "rectangle"}]})
RECORD = {"image": "a.jpg"}


def label_studio(kind: str, **data: str) -> str:
    result = [{"from_name": "x", "type": kind, "value": {}}]
    return json.dumps([{"id": 1, "annotations": [{"result": result}], "data": data}])


def record(**columns: Any) -> str:
    return json.dumps({"image": "a.jpg", **columns})


LAYOUTS: dict[str, tuple[Files, str, str, str]] = {
    "roboflow's COCO": (
        {"train/_annotations.coco.json": COCO, "valid/_annotations.coco.json": COCO},
        "coco", "detection", "",
    ),
    "COCO's download": (
        {"annotations/instances_train2017.json": COCO_MASKS, "train2017/a.jpg": ""},
        "coco", "detection", "segmentation",
    ),
    "COCO captions": ({"annotations/captions_val2014.json": CAPTIONS}, "coco", "caption", ""),
    "CVAT's COCO": ({"annotations/instances_default.json": COCO}, "coco", "detection", ""),
    "YOLO": (
        {"data.yaml": "train: images/train\nnames: [boat]\n", "images/train/a.jpg": "",
         "labels/train/a.txt": "0 0.5 0.5 0.1 0.1\n"},
        "yolo", "detection", "",
    ),
    "YOLO polygons": (
        {"data.yaml": "names:\n  0: boat\n", "labels/a.txt": "0 0.5 0.5 0.1 0.1 0.3 0.3\n"},
        "yolo", "detection", "segmentation",
    ),
    "Pascal VOC": (
        {"ImageSets/Main/train.txt": "a\n", "Annotations/a.xml": VOC, "JPEGImages/a.jpg": ""},
        "voc", "detection", "",
    ),
    "CVAT": ({"annotations.xml": CVAT, "images/a.jpg": ""}, "cvat", "detection", ""),
    "Label Studio boxes": (
        {"project-1.json": label_studio("rectanglelabels", image="a.jpg")},
        "label_studio", "detection", "",
    ),
    "Label Studio choices": (
        {"project-1.json": label_studio("choices", image="a.jpg")}, "label_studio", "vqa", "",
    ),
    "LabelMe": ({"a.json": LABELME, "a.jpg": ""}, "labelme", "detection", ""),
    "LabelMe polygons": (
        {"a.json": LABELME.replace("rectangle", "polygon")}, "labelme", "detection", "segmentation",
    ),
    "questions": (
        {"train.jsonl": record(question="?", answer="x")}, "jsonl", "vqa", "",
    ),
    "documents": ({"train/metadata.jsonl": record(ground_truth="{}")}, "jsonl", "json", ""),
    "tokens of boxes": (
        {"_annotations.train.jsonl": record(prefix="detect a", suffix="<loc0001> a")},
        "jsonl", "detection", "",
    ),
    "LLaVA": (
        {"llava_train.json": f'[{record(conversations=[{"from": "human", "value": "?"}])}]'},
        "jsonl", "text", "",
    ),
    "messages": ({"train.jsonl": record(messages=[])}, "jsonl", "text", ""),
    "CSV of records": ({"train.csv": "image,caption\na.jpg,boat\n"}, "csv", "caption", ""),
    "CSV of boxes": (
        {"train_labels.csv": "filename,width,height,class,xmin,ymin,xmax,ymax\n"},
        "csv", "detection", "",
    ),
    "masks": (
        {"images/train/a.jpg": "", "masks/train/a.png": "", "classes.txt": "boat\n"},
        "semantic_masks", "segmentation", "",
    ),
    "masks of objects": (
        {"images/train/a.jpg": "", "masks/train/a/boat_1.png": "", "classes.txt": "boat\n"},
        "instance_masks", "segmentation", "",
    ),
}  # fmt: skip


def listing_of(files: Files) -> Listing:
    return Listing(tuple(files), lambda name: files[name].encode())


def choose(files: Files, **chosen: str) -> Layout:
    listing = listing_of(files)
    return choose_layout("boats", recognize(listing), listing, **chosen)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_is_recognized_with_its_task(name: str) -> None:
    files, data, task, also = LAYOUTS[name]
    layout = choose(files)
    assert (layout.data, layout.tasks, layout.also or "") == (data, (task,), also)


AMBIGUOUS: dict[str, tuple[Files, str, dict[str, str]]] = {
    "two formats": (
        {**LAYOUTS["YOLO"][0], **LAYOUTS["roboflow's COCO"][0]},
        "boats holds several formats: COCO (train/_annotations.coco.json, "
        "valid/_annotations.coco.json): data=coco; YOLO (data.yaml): data=yolo. Add one of",
        {"data": "yolo"},
    ),
    "objects and captions": (
        {
            f"annotations/{kind}_{split}.json": text
            for kind, text in (("captions", CAPTIONS), ("instances", COCO))
            for split in ("test", "train", "val")
        },
        "but its task is not clear. Add task=detection or task=caption.",
        {"task": "caption"},
    ),
    "boxes and masks": (
        {"Annotations/a.xml": VOC, **LAYOUTS["masks"][0]},
        "Pascal VOC (Annotations/a.xml): data=voc; masks as images (masks/train/a.png): data=sem",
        {"task": "segmentation"},
    ),
    "several columns": (
        {"train.jsonl": record(question="?", answer="x", caption="c")},
        "boats is JSON lines (train.jsonl), but its task is not clear. Add task=vqa or task=cap",
        {"task": "vqa"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_several_candidates_end_in_one_sentence_and_one_setting_resolves_it(name: str) -> None:
    files, why, chosen = AMBIGUOUS[name]
    with pytest.raises(DataError) as caught:
        choose(files)
    assert why in str(caught.value)
    layout = choose(files, **chosen)
    assert chosen.get("data", layout.data) == layout.data
    assert chosen.get("task", layout.tasks[0]) in layout.tasks


@pytest.mark.parametrize(
    ("files", "why"),
    [
        (
            {"images/a.jpg": "", "labels/a.txt": "0 0.5 0.5 0.1 0.1\n"},
            "boats looks like YOLO (labels/a.txt). Write data.yaml with the classes",
        ),
        (
            {"images/a.jpg": "", "masks/a.png": ""},
            "boats looks like masks as images (masks/a.png). List the classes in classes.txt",
        ),
        (
            {"train.jsonl": '{"img": "a.jpg", "caption": "x"}'},
            "The columns are caption, img: set data.columns.image=COLUMN",
        ),
        ({"train.jsonl": record(name="x")}, "no task fits them"),
        (
            {"p.json": json.dumps([{"image": "a", "annotation_id": 1, "annotator": 1}])},
            "Export the project as JSON, not as JSON-MIN.",
        ),
        (
            {"p.json": label_studio("videorectangle", video="a.mp4")},
            "Videos cannot be read: export their frames as images and label these.",
        ),
        (
            {"a.jpg": "", "b.jpg": "", "notes.txt": "hello"},
            "boats does not look like any known format: it holds files of these kinds: 2 .jpg, "
            "1 .txt. Needed are annotations, e.g. COCO (*.json)",
        ),
        ({}, "it holds no files"),
        ({"config.json": '{"a": [1]}', "x.json": "[", "y.json": "[1]"}, "does not look like any"),
    ],
)
def test_what_is_missing_is_one_sentence(files: Files, why: str) -> None:
    with pytest.raises(DataError) as caught:
        choose(files)
    assert why in str(caught.value)


def test_a_chosen_format_that_the_folder_has_not_is_named_with_the_one_it_has() -> None:
    with pytest.raises(DataError) as caught:
        choose(LAYOUTS["LabelMe"][0], data="yolo")
    assert str(caught.value) == "boats is not YOLO: it holds LabelMe (a.json). Set data=labelme."


@pytest.mark.parametrize(
    ("name", "split"),
    [("annotations/instances_train2017.json", "train"), ("valid/_annotations.coco.json",
     "validation"), ("train/val.json", "validation"), ("test.jsonl", "test"),
     ("dev-00000.parquet", "validation"), ("project-1.json", None), ("contest.json", None)],
)  # fmt: skip
def test_a_split_is_a_word_of_the_path(name: str, split: str | None) -> None:
    assert split_of(name) == split


def test_a_pipe_is_not_listed_and_so_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "annotations.json")
    (tmp_path / "train.jsonl").write_text("{}")
    assert list_folder(tmp_path).files == ("train.jsonl",)
