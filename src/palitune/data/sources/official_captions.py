"""The official files of benchmarks that describe images; see `layout` for what an entry means."""

import json
from collections.abc import Iterator
from pathlib import Path

from palitune.data.sources import official_readers as read
from palitune.data.sources.layout import BY_SPLIT, File, Join, Layout, Record, Splits, in_one_file
from palitune.examples import DataError, Instance, Size

_COCO = "images: cocodataset.org"
_RICO = "images: interactionmining.org/rico (unique_uis)"
_KARPATHY = "cs.stanford.edu/people/karpathy/deepimagesent (caption_datasets.zip)"


def _screens(folder: str, ending: str) -> Splits:
    kinds = {"train": "train", "validation": "dev", "test": "test"}
    table = "screen_summaries.csv" if folder == "split" and ending else None
    return {
        split: (File(name=f"{folder}/{kind}{ending}.txt", join=table),)
        for split, kind in kinds.items()
    }


def _widget(record: Record, image: str, size: Size) -> Iterator[Instance]:
    """Find the widget in the view of its screen, which is 2560 high whatever the image is."""
    view = json.loads(Path(image).with_suffix(".json").read_bytes())
    node = view["activity"]["root"]
    for index in record["nodeId"].split(".")[1:]:
        node = node["children"][int(index)]
    x0, y0, x1, y1 = (bound * size[1] / 2560 for bound in node["bounds"])
    box = max(x0, 0.0), max(y0, 0.0), min(x1, float(size[0])), min(y1, float(size[1]))
    if box[0] >= box[2] or box[1] >= box[3]:
        raise DataError(f"widget {record['nodeId']} with bounds {node['bounds']} has no area")
    yield Instance("widget", box)


CAPTIONS: dict[str, Layout] = {
    "coco_captions": Layout(
        home=f"{_KARPATHY}; {_COCO} (train2014, val2014)",
        splits={
            "train": (
                File(name="dataset_coco.json", where=("split", "train"), minival=0.02),
                File(name="dataset_coco.json", where=("split", "restval")),
            ),
            **in_one_file("dataset_coco.json", validation="val", test="test"),
        },
        read=read.listed("images"),
        images=["{filepath}/{filename}"],
        id="{cocoid}",
        captions="sentences.*.raw",
    ),
    "coco35l": Layout(
        home=f"google.github.io/crossmodal-3600 (coco_mt_*.jsonl.bz2, unpacked); {_COCO} (2014)",
        splits={
            "train": (File(name="coco_mt_train.jsonl"),),
            "validation": (File(name="coco_mt_dev.jsonl"),),
        },
        read=read.coco35l,
        images=[f"{year}/COCO_{year}_{{image:012d}}.jpg" for year in ("train2014", "val2014")],
        id="{image}-{language}",
        captions="captions",
        language="language",
        attributes={"language": "language"},
    ),
    "xm3600": Layout(
        home="google.github.io/crossmodal-3600 (captions.zip, images.tgz)",
        splits={"test": (File(name="captions.jsonl"),)},
        read=read.xm3600,
        images=["images/{key}.jpg"],
        id="{key}-{language}",
        captions="captions",
        language="language",
        attributes={"language": "language"},
    ),
    "nocaps": Layout(
        home="nocaps.org/download; images: Open Images, validation and test",
        splits={
            "validation": (
                File(
                    name="nocaps_val_4500_captions.json",
                    join="nocaps_val_4500_captions.json",
                    told={"split": "validation"},
                ),
            ),
            "test": (File(name="nocaps_test_image_info.json", told={"split": "test"}),),
        },
        read=read.listed("images"),
        join=Join(read=read.listed("annotations"), ours="id", theirs="image_id"),
        images=["{split}/{file_name}", "images/{file_name}", "Images/{split}/{file_name}"],
        id="{id}",
        captions="joined.*.caption",
        attributes={"domain": "domain"},
    ),
    "textcaps": Layout(
        home="textvqa.org/textcaps/dataset; images of TextVQA",
        splits={
            "train": (File(name="TextCaps_0.1_train.json", told={"folder": "train_images"}),),
            "validation": (File(name="TextCaps_0.1_val.json", told={"folder": "train_images"}),),
            "test": (File(name="TextCaps_0.1_test.json", told={"folder": "test_images"}),),
        },
        read=read.textcaps,
        images=["{folder}/{image_id}.jpg"],
        id="{image_id}",
        captions=lambda record: record["captions"] or None,
    ),
    "scicap": Layout(
        home="github.com/tingyaohsu/SciCap (scicap_data.zip)",
        splits={
            split: (
                File(
                    name="List-of-Files-for-Each-Experiments/First-Sentence/No-Subfig/"
                    f"{there}/file_idx.json",
                    told={"split": there},
                ),
            )
            for split, there in BY_SPLIT.items()
        },
        read=read.scicap,
        images=["SciCap-No-Subfig-Img/{split}/{key}.png"],
        id="{key}",
        captions="caption",
        attributes={"figure_type": "figure_type"},
    ),
    "screen2words": Layout(
        home=f"github.com/google-research-datasets/screen2words; {_RICO}",
        splits=_screens("split", "_screens"),
        read=read.names,
        join=Join(read=read.table, ours="key", theirs="screenId"),
        images=["combined/{key}.jpg"],
        id="{key}",
        captions="joined.*.summary",
    ),
    "widgetcap": Layout(
        home=f"github.com/google-research-datasets/widget-caption; {_RICO}",
        splits=_screens("split", ""),
        read=read.widgets,
        images=["combined/{screenId}.jpg"],
        id="{screenId}_{nodeId}",
        captions="captions",
        objects=_widget,
    ),
    "docci": Layout(
        home="google.github.io/docci",
        splits=in_one_file(
            "docci_descriptions.jsonlines",
            train="train", test="test", qual_dev="qual_dev", qual_test="qual_test",
        ),
        read=read.lines,
        images=["images/{image_file}"],
        id="{example_id}",
        captions="description",
    ),
}  # fmt: skip
