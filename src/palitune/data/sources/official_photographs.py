"""The official files of benchmarks that ask questions about photographs; see `layout`.

Names and keys are those of the published files; where images lie is what their archives unpack to,
or what the data set builders of big_vision (`big_vision/datasets`) ask for.
"""

from dataclasses import replace

from palitune.data.sources import official_readers as read
from palitune.data.sources.layout import (
    File,
    Join,
    Layout,
    Record,
    Splits,
    by_split,
    chosen,
    listed_choices,
)

_COCO = "images: cocodataset.org"


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
    splits=by_split(
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
    splits=by_split("aokvqa_v1p0_{}.json"),
    read=read.listed(),
    images=["{split}2017/{image_id:012d}.jpg"],
    id="{question_id}",
    question="question",
    answers="direct_answers",
    choices=listed_choices,
)

ABOUT_PHOTOGRAPHS: dict[str, Layout] = {
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
    "aokvqa_mc": replace(_AOKVQA, answers=chosen("correct_choice_idx")),
    "vizwiz": Layout(
        home="vizwiz.org/tasks-and-datasets/vqa",
        splits=by_split("*nnotations/{}.json"),
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
        splits=by_split("{}.json", train="train", test="test"),
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
        splits=by_split("{}.jsonl", train="train", validation="dev", test="test"),
        read=read.lines,
        images=["images/{image}", "train2017/{image}", "val2017/{image}"],
        id="{split}-{number}",
        question="caption",
        answers=lambda record: str(bool(record["label"])),
        attributes={"relation": "relation"},
    ),
}
