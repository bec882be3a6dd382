"""Captioning benchmarks: descriptions of their official files."""

import json
from collections.abc import Iterator
from pathlib import Path

from palitune.data.benchmarks import readers as read
from palitune.data.benchmarks.layout import (
    TEXTVQA_SPLITS,
    BenchmarkSpec,
    Record,
    RecordJoin,
    SplitFile,
    by_split,
    in_one_file,
)
from palitune.errors import DataError
from palitune.records import Instance, Size

_COCO = "images: cocodataset.org"
_RICO = "images: interactionmining.org/rico (unique_uis)"
_SCREEN_SPLITS = {"train": "train", "validation": "dev", "test": "test"}
_KARPATHY = "cs.stanford.edu/people/karpathy/deepimagesent (caption_datasets.zip)"


def _widget_instance(record: Record, image: str, size: Size) -> Iterator[Instance]:
    """Return the box of a widget from the view hierarchy, which has a height of 2560 px."""
    view = json.loads(Path(image).with_suffix(".json").read_bytes())
    node = view["activity"]["root"]
    for index in record["nodeId"].split(".")[1:]:
        node = node["children"][int(index)]
    x0, y0, x1, y1 = (bound * size[1] / 2560 for bound in node["bounds"])
    box = max(x0, 0.0), max(y0, 0.0), min(x1, float(size[0])), min(y1, float(size[1]))
    if box[0] >= box[2] or box[1] >= box[3]:
        raise DataError(
            f"widget {record['nodeId']} must have an area, got the bounds {node['bounds']}."
        )
    yield Instance("widget", box)


CAPTION_BENCHMARKS: dict[str, BenchmarkSpec] = {
    "coco_captions": BenchmarkSpec(
        homepage=f"{_KARPATHY}; {_COCO} (train2014, val2014)",
        splits={
            "train": (
                SplitFile(name="dataset_coco.json", record_filter=("split", "train"), minival=0.02),
                SplitFile(name="dataset_coco.json", record_filter=("split", "restval")),
            ),
            **in_one_file("dataset_coco.json", {"validation": "val", "test": "test"}),
        },
        read=read.json_list("images"),
        images=["{filepath}/{filename}"],
        id="{cocoid}",
        captions="sentences.*.raw",
    ),
    "coco35l": BenchmarkSpec(
        homepage="google.github.io/crossmodal-3600 (coco_mt_*.jsonl.bz2, unpacked); "
        f"{_COCO} (2014)",
        splits={
            "train": (SplitFile(name="coco_mt_train.jsonl"),),
            "validation": (SplitFile(name="coco_mt_dev.jsonl"),),
        },
        read=read.coco35l,
        images=[f"{year}/COCO_{year}_{{image:012d}}.jpg" for year in ("train2014", "val2014")],
        id="{image}-{language}",
        captions="captions",
        language="language",
        attributes={"language": "language"},
    ),
    "xm3600": BenchmarkSpec(
        homepage="google.github.io/crossmodal-3600 (captions.zip, images.tgz)",
        splits={"test": (SplitFile(name="captions.jsonl"),)},
        read=read.xm3600,
        images=["images/{key}.jpg"],
        id="{key}-{language}",
        captions="captions",
        language="language",
        attributes={"language": "language"},
    ),
    "nocaps": BenchmarkSpec(
        homepage="nocaps.org/download; images: Open Images, validation and test",
        splits={
            "validation": (
                SplitFile(
                    name="nocaps_val_4500_captions.json",
                    join_file="nocaps_val_4500_captions.json",
                    metadata={"split": "validation"},
                ),
            ),
            "test": (SplitFile(name="nocaps_test_image_info.json", metadata={"split": "test"}),),
        },
        read=read.json_list("images"),
        join=RecordJoin(read=read.json_list("annotations"), left_on="id", right_on="image_id"),
        images=["{split}/{file_name}", "images/{file_name}", "Images/{split}/{file_name}"],
        id="{id}",
        captions="joined.*.caption",
        attributes={"domain": "domain"},
    ),
    "textcaps": BenchmarkSpec(
        homepage="textvqa.org/textcaps/dataset; images of TextVQA",
        splits={
            split: (SplitFile(name=f"TextCaps_0.1_{official}.json", metadata={"folder": folder}),)
            for split, official, folder in TEXTVQA_SPLITS
        },
        read=read.textcaps,
        images=["{folder}/{image_id}.jpg"],
        id="{image_id}",
        captions=lambda record: record["captions"] or None,
    ),
    "scicap": BenchmarkSpec(
        homepage="github.com/tingyaohsu/SciCap (scicap_data.zip)",
        splits=by_split(
            "List-of-Files-for-Each-Experiments/First-Sentence/No-Subfig/{}/file_idx.json"
        ),
        read=read.scicap,
        images=["SciCap-No-Subfig-Img/{split}/{key}.png"],
        id="{key}",
        captions="caption",
        attributes={"figure_type": "figure_type"},
    ),
    "screen2words": BenchmarkSpec(
        homepage=f"github.com/google-research-datasets/screen2words; {_RICO}",
        splits=by_split("split/{}_screens.txt", _SCREEN_SPLITS, join="screen_summaries.csv"),
        read=read.name_lines,
        join=RecordJoin(read=read.csv_rows, left_on="key", right_on="screenId"),
        images=["combined/{key}.jpg"],
        id="{key}",
        captions="joined.*.summary",
    ),
    "widgetcap": BenchmarkSpec(
        homepage=f"github.com/google-research-datasets/widget-caption; {_RICO}",
        splits=by_split("split/{}.txt", _SCREEN_SPLITS),
        read=read.widgets,
        images=["combined/{screenId}.jpg"],
        id="{screenId}_{nodeId}",
        captions="captions",
        make_instances=_widget_instance,
    ),
    "docci": BenchmarkSpec(
        homepage="google.github.io/docci",
        splits=in_one_file(
            "docci_descriptions.jsonlines",
            {name: name for name in ("train", "test", "qual_dev", "qual_test")},
        ),
        read=read.json_lines,
        images=["images/{image_file}"],
        id="{example_id}",
        captions="description",
    ),
}
