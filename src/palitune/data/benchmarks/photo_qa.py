"""Question answering on photographs: descriptions of the official files.

Image folders are those of the published archives, or of the data set builders of big_vision
(`big_vision/datasets`).
"""

from dataclasses import replace

from palitune.data.benchmarks import readers as read
from palitune.data.benchmarks.layout import (
    SPLIT_NAMES,
    BenchmarkSpec,
    Record,
    RecordJoin,
    SplitFile,
    SplitFiles,
    by_split,
    by_value,
    choice_texts,
    chosen,
)

_COCO = "images: cocodataset.org"


def _coco_splits(questions: str, answers: str, minival: float = 0) -> SplitFiles:
    """Return the splits of questions about COCO 2014, each with a file of answers."""
    train, validation = (
        SplitFile(
            name=questions.format(year),
            join_file=answers.format(year),
            metadata={"year": year},
            minival=cut,
        )
        for year, cut in (("train2014", minival if minival < 1 else 0), ("val2014", 0))
    )
    splits: SplitFiles = {"train": (train,), "validation": (validation,)}
    if minival >= 1:
        splits["trainval"] = (train, replace(validation, minival=minival))
    return splits


def _complexity(record: Record) -> str | None:
    """Return the complexity of a TallyQA question, which only the test set contains."""
    simple = record.get("issimple")
    return None if simple is None else "simple" if simple else "complex"


_VQA = BenchmarkSpec(
    homepage=f"visualqa.org/download.html; {_COCO} (2014, test2015)",
    splits=_coco_splits(
        "v2_OpenEnded_mscoco_{}_questions.json", "v2_mscoco_{}_annotations.json", minival=10_240
    )
    | {
        split: (
            SplitFile(
                name=f"v2_OpenEnded_mscoco_{year}_questions.json",
                metadata={"year": "test2015"},
                may_lack_images=True,
            ),
        )
        for split, year in {"test": "test2015", "test-dev": "test-dev2015"}.items()
    },
    read=read.json_list("questions"),
    join=RecordJoin(
        read=read.json_list("annotations"), left_on="question_id", right_on="question_id"
    ),
    images=["{year}/COCO_{year}_{image_id:012d}.jpg"],
    id="{question_id}",
    question="question",
    answers="joined.0.answers",
    attributes={
        "question_type": "joined.0.question_type",
        "answer_type": "joined.0.answer_type",
    },
)

_GQA = BenchmarkSpec(
    homepage="cs.stanford.edu/people/dorarad/gqa/download.html",
    splits=by_split("{}_balanced_questions.json", {**SPLIT_NAMES, "testdev": "testdev"}),
    read=read.json_dict,
    images=["images/{imageId}.jpg"],
    id="{key}",
    question="question",
    answers="answer",
    attributes={"structure": "types.structural", "about": "types.semantic"},
)

_RSVQA = BenchmarkSpec(
    homepage="rsvqa.sylvainlobry.com",
    splits={},
    read=read.json_list("questions"),
    join=RecordJoin(read=read.json_list("answers"), left_on="id", right_on="question_id"),
    images=[],
    id="{id}",
    include_record=lambda record: record.get("active", False),
    question="question",
    answers="joined.0.answer",
    attributes={"question_type": "type"},
)


_AOKVQA = BenchmarkSpec(
    homepage=f"aokvqa.allenai.org/download.html; {_COCO} (2017)",
    splits=by_split("aokvqa_v1p0_{}.json"),
    read=read.json_list(),
    images=["{split}2017/{image_id:012d}.jpg"],
    id="{question_id}",
    question="question",
    answers="direct_answers",
    choices=choice_texts,
    attributes={"difficult_direct_answer": "difficult_direct_answer"},
)

PHOTO_BENCHMARKS: dict[str, BenchmarkSpec] = {
    "vqav2": _VQA,
    "okvqa": replace(
        _VQA,
        homepage=f"okvqa.allenai.org/download.html; {_COCO} (2014)",
        splits=_coco_splits(
            "OpenEnded_mscoco_{}_questions.json", "mscoco_{}_annotations.json", minival=0.1
        ),
        attributes={"question_type": "joined.0.question_type"},
    ),
    "aokvqa_da": _AOKVQA,
    "aokvqa_mc": replace(_AOKVQA, answers=chosen("correct_choice_idx")),
    "vizwiz": BenchmarkSpec(
        homepage="vizwiz.org/tasks-and-datasets/vqa",
        splits=by_split("*nnotations/{}.json"),
        read=read.json_list(),
        images=["{split}/{image}", "{image}"],
        id="{image}",
        question="question",
        answers="answers",
        attributes={"answer_type": "answer_type"},
    ),
    "gqa": _GQA,
    "xgqa": replace(
        _GQA,
        homepage="github.com/adapter-hub/xGQA, data/zero_shot; images of GQA",
        splits={
            "test": by_value(
                "zero_shot/testdev_balanced_questions_{}.json",
                "language",
                ("bn", "de", "en", "id", "ko", "pt", "ru", "zh"),
            )
        },
        id="{key}-{language}",
        attributes={"language": "language"},
    ),
    "tallyqa": BenchmarkSpec(
        homepage=f"github.com/manoja328/TallyQA_dataset; {_COCO} (2014), homes.cs.washington.edu "
        "(Visual Genome)",
        splits=by_split("{}.json", {"train": "train", "test": "test"}),
        read=read.json_list(),
        images=["{image}"],
        id="{image_id}-{question_id}",
        question="question",
        answers="answer",
        attributes={"complexity": _complexity},
    ),
    "countbenchqa": BenchmarkSpec(
        homepage="the hub's nielsr/countbench (data/train-*.parquet) and, next to it, big_vision's "
        "datasets/countbenchqa/data/countbench_paired_questions.json",
        splits={"test": (SplitFile(name="train-*.parquet"),)},
        read=read.countbench,
        images=["{image}"],
        id="{key}",
        question="question",
        answers="number",
    ),
    "rsvqa_lr": replace(
        _RSVQA,
        homepage="zenodo.org/records/6344334",
        splits=by_split("LR_split_{}_questions.json", join="LR_split_{}_answers.json"),
        images=["Images_LR/{img_id}.tif"],
    ),
    "rsvqa_hr": replace(
        _RSVQA,
        homepage="zenodo.org/records/6344367",
        splits=by_split(
            "USGS_split_{}_questions.json",
            {**SPLIT_NAMES, "test2": "test_phili"},
            join="USGS_split_{}_answers.json",
        ),
        images=["Data/{img_id}.tif", "Data/{img_id}.png"],
    ),
    "pope": BenchmarkSpec(
        homepage=f"github.com/AoiDragon/POPE, output/coco; {_COCO} (val2014)",
        splits={
            "test": by_value("coco_pope_{}.json", "kind", ("random", "popular", "adversarial"))
        },
        read=read.json_lines,
        images=["val2014/{image}"],
        id="{kind}-{question_id}",
        question="text",
        answers="label",
        attributes={"kind": "kind"},
    ),
    "vsr": BenchmarkSpec(
        homepage="github.com/cambridgeltl/visual-spatial-reasoning; "
        f"{_COCO} (train2017 and val2017, in one folder images)",
        splits=by_split("{}.jsonl", {"train": "train", "validation": "dev", "test": "test"}),
        read=read.json_lines,
        images=["images/{image}", "train2017/{image}", "val2017/{image}"],
        id="{split}-{number}",
        question="caption",
        answers=lambda record: str(bool(record["label"])),
        attributes={"relation": "relation"},
    ),
}
