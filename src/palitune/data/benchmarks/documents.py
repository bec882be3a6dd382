"""Question answering on documents and diagrams: descriptions of the official files.

Image folders are those of the published archives, or of the data set builders of big_vision
(`big_vision/datasets`).
"""

from palitune.data.benchmarks import readers as read
from palitune.data.benchmarks.derived_images import draw_choice_letters
from palitune.data.benchmarks.layout import (
    SPLIT_NAMES,
    TEXTVQA_SPLITS,
    BenchmarkSpec,
    SplitFile,
    by_split,
    choice_texts,
    chosen,
    in_one_file,
)

_RRC = "rrc.cvc.uab.es, with a free account"

DOCUMENT_BENCHMARKS: dict[str, BenchmarkSpec] = {
    "docvqa": BenchmarkSpec(
        homepage=f'"Document Visual Question Answering", task 1, at {_RRC}',
        splits=by_split(
            "{}_v1.0*.json",
            alternatives=["spdocvqa_qas/{}_v1.0*.json", "{}/{}_v1.0*.json"],
            minival=0.05,
        ),
        read=read.json_list("data"),
        images=[
            "{split}/{image}",
            "{image}",
            "spdocvqa_images/{name}",
            "images/{name}",
            "documents/{name}",
        ],
        id="{questionId}",
        question="question",
        answers="answers",
    ),
    "infovqa": BenchmarkSpec(
        homepage=f'"Document Visual Question Answering", task 3 (InfographicVQA), at {_RRC}',
        splits={
            split: (
                SplitFile(
                    name=f"infographic*VQA_{official}_v1.0*.json",
                    alternatives=(f"infographic*_qas/infographic*VQA_{official}_v1.0*.json",),
                    metadata={"permuted": "yes"} if split == "validation" else {},
                ),
            )
            for split, official in SPLIT_NAMES.items()
        },
        read=read.json_list("data"),
        images=["images/{name}", "infographicsvqa_images/{name}", "{name}"],
        id="{questionId}",
        question="question",
        answers=lambda record: (
            read.span_permutations(record["answers"])
            if "permuted" in record
            else record.get("answers")
        ),
    ),
    "stvqa": BenchmarkSpec(
        homepage=f'"Scene Text Visual Question Answering", task 3, at {_RRC}; images of COCO-Text '
        "in full size: cocodataset.org (train2014)",
        splits=by_split("{}_task_3.json", {"train": "train", "test": "test"}),
        read=read.json_list("data"),
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
    "textvqa": BenchmarkSpec(
        homepage="textvqa.org/dataset",
        splits={
            split: (SplitFile(name=f"TextVQA_0.5*_{official}.json", metadata={"folder": folder}),)
            for split, official, folder in TEXTVQA_SPLITS
        },
        read=read.json_list("data"),
        images=["{folder}/{image_id}.jpg"],
        id="{question_id}",
        question="question",
        answers="answers",
    ),
    "chartqa": BenchmarkSpec(
        homepage='github.com/vis-nlp/ChartQA ("ChartQA Dataset")',
        splits={
            split: tuple(
                SplitFile(
                    name=f"{official}/{official}_{half}.json",
                    metadata={"half": half, "split": official},
                )
                for half in ("human", "augmented")
            )
            for split, official in SPLIT_NAMES.items()
        },
        read=read.json_list(),
        images=["{split}/png/{imgname}"],
        id="{split}-{half}-{number}",
        question="query",
        answers="label",
        attributes={"half": "half"},
    ),
    "ocrvqa": BenchmarkSpec(
        homepage="ocr-vqa.github.io",
        splits=in_one_file("dataset.json", {"train": 1, "validation": 2, "test": 3}),
        read=read.ocr_vqa,
        images=["images/{image}", "images/{book}.jpg"],
        id="{key}",
        question="question",
        answers="answer",
        attributes={"genre": "genre"},
    ),
    "ai2d": BenchmarkSpec(
        homepage="prior.allenai.org/projects/diagram-understanding "
        "(ai2d-all.zip, ai2d_test_ids.csv)",
        splits=in_one_file("questions", {"train": "train", "test": "test"}, minival=1024),
        read=read.ai2d,
        images=["images/{image}"],
        id="{questionId}",
        question="question",
        answers=chosen("correctAnswer"),
        choices=choice_texts,
        transform_image=draw_choice_letters,
    ),
    "scienceqa": BenchmarkSpec(
        homepage="scienceqa.github.io",
        splits=in_one_file("problems.json", SPLIT_NAMES),
        read=read.json_dict,
        images=["{split}/{key}/{image}", "images/{split}/{key}/{image}"],
        id="{key}",
        include_record=lambda record: bool(record["image"]),
        question="question",
        answers=chosen("answer"),
        choices=choice_texts,
        hint="hint",
        attributes={"subject": "subject"},
    ),
}
