"""The official files of benchmarks that ask questions about documents and diagrams; see `layout`.

Names and keys are those of the published files; where images lie is what their archives unpack to,
or what the data set builders of big_vision (`big_vision/datasets`) ask for.
"""

from palitune.data.sources import official_readers as read
from palitune.data.sources.layout import (
    BY_SPLIT,
    File,
    Layout,
    by_split,
    chosen,
    in_one_file,
    listed_choices,
)
from palitune.data.sources.official_images import lettered

_RRC = "rrc.cvc.uab.es, with a free account"

ABOUT_DOCUMENTS: dict[str, Layout] = {
    "docvqa": Layout(
        home=f'"Document Visual Question Answering", task 1, at {_RRC}',
        splits={
            "train": (File(name="train_v1.0*.json", told={"split": "train"}, minival=0.05),),
            "validation": (File(name="val_v1.0*.json", told={"split": "val"}),),
            "test": (File(name="test_v1.0*.json", told={"split": "test"}),),
        },
        read=read.listed("data"),
        images=["{split}/{image}", "{image}", "spdocvqa_images/{name}", "documents/{name}"],
        id="{questionId}",
        question="question",
        answers="answers",
    ),
    "infovqa": Layout(
        home=f'"Document Visual Question Answering", task 3 (InfographicVQA), at {_RRC}',
        splits={
            "train": (File(name="infographic*VQA_train_v1.0*.json"),),
            "validation": (File(name="infographic*VQA_val_v1.0*.json", told={"permuted": "yes"}),),
            "test": (File(name="infographic*VQA_test_v1.0*.json"),),
        },
        read=read.listed("data"),
        images=["images/{name}", "infographicsvqa_images/{name}", "{name}"],
        id="{questionId}",
        question="question",
        answers=lambda record: (
            read.permuted(record["answers"]) if "permuted" in record else record.get("answers")
        ),
    ),
    "stvqa": Layout(
        home=f'"Scene Text Visual Question Answering", task 3, at {_RRC}; images of COCO-Text in '
        "full size: cocodataset.org (train2014)",
        splits=by_split("{}_task_3.json", train="train", test="test"),
        read=read.listed("data"),
        images=[
            "train2014/{name}",  # COCO-Text in its full size
            "{split}_images/{file_path}",
            "{split}_task3_images/{file_path}",
            "{file_path}",
        ],
        id="{question_id}",
        question="question",
        answers="answers",
        attributes={"origin": "dataset"},
    ),
    "textvqa": Layout(
        home="textvqa.org/dataset",
        splits={
            "train": (File(name="TextVQA_0.5*_train.json", told={"folder": "train_images"}),),
            "validation": (File(name="TextVQA_0.5*_val.json", told={"folder": "train_images"}),),
            "test": (File(name="TextVQA_0.5*_test.json", told={"folder": "test_images"}),),
        },
        read=read.listed("data"),
        images=["{folder}/{image_id}.jpg"],
        id="{question_id}",
        question="question",
        answers="answers",
    ),
    "chartqa": Layout(
        home='github.com/vis-nlp/ChartQA ("ChartQA Dataset")',
        splits={
            split: tuple(
                File(name=f"{there}/{there}_{half}.json", told={"half": half, "split": there})
                for half in ("human", "augmented")
            )
            for split, there in BY_SPLIT.items()
        },
        read=read.listed(),
        images=["{split}/png/{imgname}"],
        id="{split}-{half}-{number}",
        question="query",
        answers="label",
        attributes={"half": "half"},
    ),
    "ocrvqa": Layout(
        home="ocr-vqa.github.io",
        splits=in_one_file("dataset.json", train=1, validation=2, test=3),
        read=read.ocr_vqa,
        images=["images/{image}"],
        id="{key}",
        question="question",
        answers="answer",
        attributes={"genre": "genre"},
    ),
    "ai2d": Layout(
        home="prior.allenai.org/projects/diagram-understanding (ai2d-all.zip, ai2d_test_ids.csv)",
        splits=in_one_file("questions", train="train", test="test")
        | {"train": (File(name="questions", where=("split", "train"), minival=1024),)},
        read=read.ai2d,
        images=["images/{image}"],
        id="{questionId}",
        question="question",
        answers=chosen("correctAnswer"),
        choices=listed_choices,
        redraw=lettered,
    ),
    "scienceqa": Layout(
        home="scienceqa.github.io",
        splits=in_one_file("problems.json", train="train", validation="val", test="test"),
        read=read.keyed,
        images=["{split}/{key}/{image}", "images/{split}/{key}/{image}"],
        id="{key}",
        keeps=lambda record: bool(record["image"]),
        question="question",
        answers=chosen("answer"),
        choices=listed_choices,
        hint="hint",
        attributes={"subject": "subject"},
    ),
}
