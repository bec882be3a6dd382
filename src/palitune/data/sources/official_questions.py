"""The official files of benchmarks that ask questions; see `layout` for what an entry means.

Names and keys are those of the published files; where images lie is what their archives unpack to,
or what the data set builders of big_vision (`big_vision/datasets`) ask for.
"""

from dataclasses import replace
from typing import Any

from palitune.data.sources import official_readers as read
from palitune.data.sources.layout import Column, File, Join, Layout, Record
from palitune.data.sources.official_images import lettered

Splits = dict[str, tuple[File, ...]]

_COCO = "images: cocodataset.org"
_RRC = "rrc.cvc.uab.es, with a free account"
_BY_SPLIT = {"train": "train", "validation": "val", "test": "test"}


def _files(name: str, **splits: str) -> Splits:
    """Return a file per split, called differently; {} stands for the split in it."""
    return {
        split: (File(name=name.format(there), told={"split": there}),)
        for split, there in (splits or _BY_SPLIT).items()
    }


def _one_file(name: str, **splits: Any) -> Splits:
    """Return splits out of one file, by what its records hold under `split`."""
    return {s: (File(name=name, where=("split", there)),) for s, there in splits.items()}


def _on_coco(questions: str, answers: str, minival: float = 0) -> Splits:
    """Return the splits of questions about COCO 2014, in two files each."""
    train, validation = (
        File(
            name=questions.format(year), join=answers.format(year), told={"year": year}, minival=cut
        )
        for year, cut in (("train2014", minival if minival < 1 else 0), ("val2014", 0))
    )
    splits: Splits = {"train": (train,), "validation": (validation,)}
    if minival >= 1:
        splits["trainval"] = (train, replace(validation, minival=minival))
    return splits


def _choices(record: Record) -> list[str]:
    written = record["choices"] if "choices" in record else record["answerTexts"]
    return [str(choice) for choice in written]


def _chosen(index: str) -> Column:
    """Return the choice whose number stands under a key; test sets do not tell it."""
    return lambda record: None if record.get(index) is None else _choices(record)[record[index]]


def _complexity(record: Record) -> str | None:
    """Tell what TallyQA says of its test questions only."""
    simple = record.get("issimple")
    return None if simple is None else "simple" if simple else "complex"


_VQA = Layout(
    home=f"visualqa.org/download.html; {_COCO} (2014, test2015)",
    splits=_on_coco(
        "v2_OpenEnded_mscoco_{}_questions.json", "v2_mscoco_{}_annotations.json", minival=10_240
    )
    | {
        split: (File(name=f"v2_OpenEnded_mscoco_{year}_questions.json", told={"year": "test2015"}),)
        for split, year in {"test": "test2015", "test-dev": "test-dev2015"}.items()
    },
    read=read.listed("questions"),
    join=Join(read=read.listed("annotations"), ours="question_id", theirs="question_id"),
    images=["{year}/COCO_{year}_{image_id:012d}.jpg"],
    id="{question_id}",
    question="question",
    answers="joined.0.answers",
    attributes={
        "question_type": "joined.0.question_type",
        "answer_type": "joined.0.answer_type",
    },
)

_GQA = Layout(
    home="cs.stanford.edu/people/dorarad/gqa/download.html",
    splits=_files(
        "{}_balanced_questions.json",
        train="train",
        validation="val",
        testdev="testdev",
        test="test",
    ),
    read=read.keyed,
    images=["images/{imageId}.jpg"],
    id="{key}",
    question="question",
    answers="answer",
    attributes={"structure": "types.structural", "about": "types.semantic"},
)

_RSVQA = Layout(
    home="rsvqa.sylvainlobry.com",
    splits={},
    read=read.listed("questions"),
    join=Join(read=read.listed("answers"), ours="id", theirs="question_id"),
    images=[],
    id="{id}",
    keeps=lambda record: record.get("active", False),
    question="question",
    answers="joined.0.answer",
    attributes={"question_type": "type"},
)


def _remote_sensing(name: str, **splits: str) -> Splits:
    return {
        split: (File(name=f"{name}_{there}_questions.json", join=f"{name}_{there}_answers.json"),)
        for split, there in splits.items()
    }


_AOKVQA = Layout(
    home=f"aokvqa.allenai.org/download.html; {_COCO} (2017)",
    splits=_files("aokvqa_v1p0_{}.json"),
    read=read.listed(),
    images=["{split}2017/{image_id:012d}.jpg"],
    id="{question_id}",
    question="question",
    answers="direct_answers",
    choices=_choices,
)

QUESTIONS: dict[str, Layout] = {
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
        home=f'"Scene Text Visual Question Answering", task 3, at {_RRC}; {_COCO} (train2014)',
        splits=_files("{}_task_3.json", train="train", test="test"),
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
    "vqav2": _VQA,
    "okvqa": replace(
        _VQA,
        home=f"okvqa.allenai.org/download.html; {_COCO} (2014)",
        splits=_on_coco(
            "OpenEnded_mscoco_{}_questions.json", "mscoco_{}_annotations.json", minival=0.1
        ),
        attributes={"question_type": "joined.0.question_type"},
    ),
    "aokvqa_da": _AOKVQA,
    "aokvqa_mc": replace(_AOKVQA, answers=_chosen("correct_choice_idx")),
    "vizwiz": Layout(
        home="vizwiz.org/tasks-and-datasets/vqa",
        splits=_files("*nnotations/{}.json"),
        read=read.listed(),
        images=["{split}/{image}", "{image}"],
        id="{image}",
        question="question",
        answers="answers",
        attributes={"answer_type": "answer_type"},
    ),
    "gqa": _GQA,
    "xgqa": replace(
        _GQA,
        home="github.com/adapter-hub/xGQA, data/zero_shot; images of GQA",
        splits={
            "test": tuple(
                File(
                    name=f"zero_shot/testdev_balanced_questions_{language}.json",
                    told={"language": language},
                )
                for language in ("bn", "de", "en", "id", "ko", "pt", "ru", "zh")
            )
        },
        id="{key}-{language}",
        attributes={"language": "language"},
    ),
    "tallyqa": Layout(
        home=f"github.com/manoja328/TallyQA_dataset; {_COCO} (2014), homes.cs.washington.edu "
        "(Visual Genome)",
        splits=_files("{}.json", train="train", test="test"),
        read=read.listed(),
        images=["{image}"],
        id="{image_id}-{question_id}",
        question="question",
        answers="answer",
        attributes={"complexity": _complexity},
    ),
    "countbenchqa": Layout(
        home="the hub's nielsr/countbench (data/train-*.parquet) and, beside it, big_vision's "
        "datasets/countbenchqa/data/countbench_paired_questions.json",
        splits={"test": (File(name="train-*.parquet"),)},
        read=read.countbench,
        images=["{image}"],
        id="{key}",
        question="question",
        answers="number",
    ),
    "scienceqa": Layout(
        home="scienceqa.github.io",
        splits=_one_file("problems.json", train="train", validation="val", test="test"),
        read=read.keyed,
        images=["{split}/{key}/{image}", "images/{split}/{key}/{image}"],
        id="{key}",
        keeps=lambda record: bool(record["image"]),
        question="question",
        answers=_chosen("answer"),
        choices=_choices,
        hint="hint",
        attributes={"subject": "subject"},
    ),
    "ai2d": Layout(
        home="prior.allenai.org/projects/diagram-understanding (ai2d-all.zip, ai2d_test_ids.csv)",
        splits=_one_file("questions", train="train", test="test")
        | {"train": (File(name="questions", where=("split", "train"), minival=1024),)},
        read=read.ai2d,
        images=["images/{image}"],
        id="{questionId}",
        question="question",
        answers=_chosen("correctAnswer"),
        choices=_choices,
        redraw=lettered,
    ),
    "chartqa": Layout(
        home='github.com/vis-nlp/ChartQA ("ChartQA Dataset")',
        splits={
            split: tuple(
                File(name=f"{there}/{there}_{half}.json", told={"half": half, "split": there})
                for half in ("human", "augmented")
            )
            for split, there in _BY_SPLIT.items()
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
        splits=_one_file("dataset.json", train=1, validation=2, test=3),
        read=read.ocr_vqa,
        images=["images/{image}"],
        id="{key}",
        question="question",
        answers="answer",
        attributes={"genre": "genre"},
    ),
    "rsvqa_lr": replace(
        _RSVQA,
        home="zenodo.org/records/6344334",
        splits=_remote_sensing("LR_split", train="train", validation="val", test="test"),
        images=["Images_LR/{img_id}.tif"],
    ),
    "rsvqa_hr": replace(
        _RSVQA,
        home="zenodo.org/records/6344367",
        splits=_remote_sensing(
            "USGS_split", train="train", validation="val", test="test", test2="test_phili"
        ),
        images=["Data/{img_id}.tif", "Data/{img_id}.png"],
    ),
    "pope": Layout(
        home=f"github.com/AoiDragon/POPE, output/coco; {_COCO} (val2014)",
        splits={
            "test": tuple(
                File(name=f"coco_pope_{kind}.json", told={"kind": kind})
                for kind in ("random", "popular", "adversarial")
            )
        },
        read=read.lines,
        images=["val2014/{image}"],
        id="{kind}-{question_id}",
        question="text",
        answers="label",
        attributes={"kind": "kind"},
    ),
    "vsr": Layout(
        home="github.com/cambridgeltl/visual-spatial-reasoning; "
        f"{_COCO} (train2017 and val2017, in one folder images)",
        splits=_files("{}.jsonl", train="train", validation="dev", test="test"),
        read=read.lines,
        images=["images/{image}", "train2017/{image}", "val2017/{image}"],
        id="{split}-{number}",
        question="caption",
        answers=lambda record: str(bool(record["label"])),
        attributes={"relation": "relation"},
    ),
}
