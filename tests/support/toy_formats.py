"""The toy data set of `toy_data` in every format with boxes or masks."""

import io
import json
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image
from pycocotools import mask as coco_mask

from palitune.data.sources.base import Source
from palitune.data.sources.box_formats import BoxFormat
from palitune.data.sources.coco import Coco
from palitune.data.sources.columns.csv_file import Csv
from palitune.data.sources.jsonl import Jsonl
from palitune.data.sources.labelling.cvat import Cvat
from palitune.data.sources.labelling.label_studio import LabelStudio
from palitune.data.sources.labelling.labelme import LabelMe
from palitune.data.sources.masks.instance import InstanceMasks, MaskLayout
from palitune.data.sources.masks.semantic import InstanceDefinition, SemanticMasks
from palitune.data.sources.parquet import Parquet
from palitune.data.sources.refcoco import RefCoco
from palitune.data.sources.voc import Voc
from palitune.data.sources.webdataset import WebDataset
from palitune.data.sources.yolo import Yolo

from support.toy_data import COLORS, SIZE, SPLITS, draw_toy_image, toy_objects
from support.toy_labelling import write_csv, write_cvat, write_label_studio, write_labelme

CLASSES = sorted(COLORS)
CLASS_INDEX = {name: number for number, name in enumerate(CLASSES)}
Object = dict[str, Any]


@dataclass(frozen=True)
class ToyFormat:
    """A format of the toy data set and its limitations."""

    name: str
    write: Callable[[Path], None]
    source: Callable[..., Source]
    settings: dict[str, Any] = field(default_factory=dict)
    carries_masks: bool = True
    carries_classes: bool = True
    """A row contains all classes, not only those of its image."""

    def open_source(self, folder: Path, *, masks: bool) -> Source:
        wanted = {"masks": masks} if self.carries_masks else {}
        return self.source(path=str(folder), **self.settings, **wanted)


def split_images(split: str) -> Iterator[tuple[int, list[Object]]]:
    return ((index, toy_objects(split, index)) for index in range(SPLITS[split]))


def box_polygon(toy_object: Object) -> list[float]:
    x0, y0, x1, y1 = toy_object["box"]
    return [x0, y0, x1, y0, x1, y1, x0, y1]


def object_mask(toy_object: Object) -> Any:
    mask = np.zeros((SIZE[1], SIZE[0]), np.uint8)
    x0, y0, x1, y1 = toy_object["box"]
    mask[y0:y1, x0:x1] = 1
    return mask


def compressed_rle(toy_object: Object) -> Object:
    encoded = coco_mask.encode(np.asfortranarray(object_mask(toy_object)))
    return {"size": [SIZE[1], SIZE[0]], "counts": encoded["counts"].decode()}


def uncompressed_rle(toy_object: Object) -> Object:
    flat = object_mask(toy_object).ravel(order="F")
    edges = np.flatnonzero(np.diff(flat, prepend=0, append=0))
    ends = [*edges.tolist(), *([flat.size] if not flat[-1] else [])]
    return {"size": [SIZE[1], SIZE[0]], "counts": np.diff([0, *ends]).tolist()}


def cxcywh_fractions(toy_object: Object) -> list[float]:
    """Center, width and height with six decimals, as tools write them."""
    x0, y0, x1, y1 = toy_object["box"]
    sides = (
        (x0 + x1) / 2 / SIZE[0],
        (y0 + y1) / 2 / SIZE[1],
        (x1 - x0) / SIZE[0],
        (y1 - y0) / SIZE[1],
    )
    return [round(side, 6) for side in sides]


def xywh(toy_object: Object) -> list[float]:
    x0, y0, x1, y1 = toy_object["box"]
    return [x0, y0, x1 - x0, y1 - y0]


def write_jsonl(
    folder: Path,
    box: Callable[[Object], list[float]] = lambda written: written["box"],
    mask: Callable[[Object], Any] = box_polygon,
) -> None:
    for split in SPLITS:
        lines = [
            json.dumps(
                {
                    "image": draw_toy_image(folder, split, index),
                    "instances": [
                        {"label": w["label"], "box": box(w), "mask": mask(w)} for w in objects
                    ],
                }
            )
            for index, objects in split_images(split)
        ]
        (folder / f"{split}.jsonl").write_text("\n".join(lines))


def relative_polygon(toy_object: Object) -> list[list[list[float]]]:
    flat = box_polygon(toy_object)
    points = zip(flat[::2], flat[1::2], strict=True)
    return [[[round(x / SIZE[0], 6), round(y / SIZE[1], 6)] for x, y in points]]


def coco_content(folder: Path, split: str, mask: Callable[[Object], Any]) -> Object:
    found = [(index, written) for index, objects in split_images(split) for written in objects]
    return {
        "images": [
            {"id": index, "file_name": Path(draw_toy_image(folder, split, index)).name}
            for index in range(SPLITS[split])
        ],
        "categories": [{"id": number + 1, "name": name} for name, number in CLASS_INDEX.items()],
        "annotations": [
            {
                "id": key,
                "image_id": index,
                "category_id": CLASS_INDEX[written["label"]] + 1,
                "bbox": xywh(written),
                "iscrowd": 0,
                "segmentation": mask(written),
            }
            for key, (index, written) in enumerate(found)
        ],
    }


def write_coco(folder: Path, mask: Callable[[Object], Any]) -> None:
    for split in SPLITS:
        (folder / f"{split}.json").write_text(json.dumps(coco_content(folder, split, mask)))


def write_roboflow_coco(folder: Path) -> None:
    """Images next to their `_annotations.coco.json`, a folder per split; validation is `valid`."""
    for split in SPLITS:
        subfolder = folder / {"validation": "valid"}.get(split, split)
        content = coco_content(folder, split, lambda written: [box_polygon(written)])
        subfolder.mkdir(parents=True)
        for index in range(SPLITS[split]):
            name = Path(draw_toy_image(folder, split, index))
            (folder / name).rename(subfolder / name.name)
        (subfolder / "_annotations.coco.json").write_text(json.dumps(content))


def yolo_line(toy_object: Object, *, polygons: bool) -> str:
    if polygons:
        numbers = [round(side / SIZE[i % 2], 6) for i, side in enumerate(box_polygon(toy_object))]
    else:
        numbers = cxcywh_fractions(toy_object)
    return " ".join(map(str, [CLASS_INDEX[toy_object["label"]], *numbers]))


def write_yolo(folder: Path, *, polygons: bool, roboflow: bool = False) -> None:
    """`images/train`, `labels/train`; from Roboflow, `train/images`, `train/labels`."""
    description: Object = {"nc": len(CLASSES)}
    description["names"] = CLASSES if roboflow else dict(enumerate(CLASSES))
    for split in SPLITS:
        key = {"validation": "val"}.get(split, split)
        subfolder = {"validation": "valid"}.get(split, split)
        template = f"{subfolder}/{{}}" if roboflow else f"{{}}/{subfolder}"
        description[key] = ("../" if roboflow else "") + template.format("images")
        for what in ("images", "labels"):
            (folder / template.format(what)).mkdir(parents=True)
        for index, objects in split_images(split):
            name = Path(draw_toy_image(folder, split, index))
            (folder / name).rename(folder / template.format("images") / name.name)
            lines = [yolo_line(written, polygons=polygons) for written in objects]
            labels = folder / template.format("labels") / f"{name.stem}.txt"
            labels.write_text("\n".join(lines))
    (folder / "data.yaml").write_text(yaml.safe_dump(description))


def voc_xml(name: str, objects: list[Object], offset: int = 0) -> str:
    found = "".join(
        f"<object><name>{w['label']}</name><difficult>0</difficult><bndbox>"
        f"<xmin>{w['box'][0] + offset}</xmin><ymin>{w['box'][1] + offset}</ymin>"
        f"<xmax>{w['box'][2]}</xmax><ymax>{w['box'][3]}</ymax></bndbox></object>"
        for w in objects
    )
    size = f"<size><width>{SIZE[0]}</width><height>{SIZE[1]}</height><depth>3</depth></size>"
    return f"<annotation><filename>{name}</filename>{size}{found}</annotation>"


def write_voc(folder: Path, *, roboflow: bool) -> None:
    """Write the devkit layout with one-based boxes, or one folder of images and XML per split."""
    for split in SPLITS:
        split_folder = folder / {"validation": "valid"}.get(split, split)
        pictures = split_folder if roboflow else folder / "JPEGImages"
        files = split_folder if roboflow else folder / "Annotations"
        lists = folder / "ImageSets" / "Main"
        for subfolder in (pictures, files) if roboflow else (pictures, files, lists):
            subfolder.mkdir(parents=True, exist_ok=True)
        names = []
        for index, objects in split_images(split):
            name = Path(draw_toy_image(folder, split, index))
            (folder / name).rename(pictures / name.name)
            xml = voc_xml(name.name, objects, offset=0 if roboflow else 1)
            (files / f"{name.stem}.xml").write_text(xml)
            names.append(name.stem)
        if not roboflow:
            listed = {"validation": "val"}.get(split, split)
            (lists / f"{listed}.txt").write_text("\n".join(names))


def write_parquet_table(folder: Path, *, arrow: bool) -> None:
    """Write tables as on the hub: embedded images, numeric categories with names."""
    import pyarrow as pa
    from pyarrow import parquet

    label = {"_type": "ClassLabel", "names": CLASSES}
    features = {"objects": {"bbox": {}, "category": {"feature": label, "_type": "List"}}}
    described = json.dumps({"info": {"features": features}})
    for split in SPLITS:
        rows = []
        for index, objects in split_images(split):
            name = draw_toy_image(folder, split, index)
            content = (folder / name).read_bytes()
            columns = {
                "bbox": [xywh(written) for written in objects],
                "category": [CLASS_INDEX[written["label"]] for written in objects],
                "mask": [compressed_rle(written) for written in objects],
            }
            rows.append({"image": {"bytes": content, "path": name}, "objects": columns})
        table = pa.Table.from_pylist(rows)
        table = table.replace_schema_metadata({"huggingface": described})
        if arrow:
            (folder / split).mkdir()
            with (
                pa.OSFile(str(folder / split / "data-00000.arrow"), "wb") as sink,
                pa.ipc.new_stream(sink, table.schema) as writer,
            ):
                writer.write_table(table)
        else:
            half = len(rows) // 2
            for shard, part in enumerate((table.slice(0, half), table.slice(half))):
                parquet.write_table(part, folder / f"{split}-{shard:05}-of-00002.parquet")


def write_shards(folder: Path) -> None:
    """Write two tar files per split, each sample as NAME.png and NAME.json."""
    for split in SPLITS:
        for shard in range(2):
            with tarfile.open(folder / f"{split}-{shard:06}.tar", "w") as archive:
                for index, objects in split_images(split):
                    if index // (SPLITS[split] // 2) == shard:
                        name = draw_toy_image(folder, split, index)
                        archive.add(folder / name, Path(name).name)
                        found = [{**written, "mask": box_polygon(written)} for written in objects]
                        content = json.dumps({"id": name, "instances": found}).encode()
                        member = tarfile.TarInfo(Path(name).with_suffix(".json").name)
                        member.size = len(content)
                        archive.addfile(member, io.BytesIO(content))


def save_label_image(numbers: Any, file: Path, *, palette: bool = False) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(numbers)
    if palette:
        image.putpalette([7 * value % 256 for value in range(768)])
    image.save(file)


def write_label_images(folder: Path, kind: str) -> None:
    """`images/train` with `masks/train`; kinds: semantic (palette, 0 = no class), ids, files."""
    (folder / "classes.txt").write_text("\n".join(CLASSES))
    for split in SPLITS:
        for index, objects in split_images(split):
            name = Path(draw_toy_image(folder, split, index))
            (folder / "images" / split).mkdir(parents=True, exist_ok=True)
            (folder / name).rename(folder / "images" / split / name.name)
            numbers = np.zeros((SIZE[1], SIZE[0]), np.uint16)
            for position, written in enumerate(objects):
                inside = object_mask(written).astype(bool)
                label = CLASS_INDEX[written["label"]] + 1
                numbers[inside] = label if kind == "semantic" else 1000 * label + position
                if kind == "files":
                    file = f"masks/{split}/{name.stem}/{written['label']}_{position}.png"
                    save_label_image(object_mask(written) * 255, folder / file)
            target = folder / "masks" / split / f"{name.stem}.png"
            if kind == "semantic":
                save_label_image(numbers.astype(np.uint8), target, palette=True)
            elif kind == "ids":
                save_label_image(numbers, target)


def write_refcoco(folder: Path) -> None:
    """Write one expression per object; ids continue across splits, as in the official files."""
    refs, whole = [], None
    for split in SPLITS:
        content = coco_content(folder, split, lambda written: [box_polygon(written)])
        whole = whole or {**content, "images": [], "annotations": []}
        start = len(whole["images"])
        whole["images"] += [image | {"id": start + image["id"]} for image in content["images"]]
        for annotation in content["annotations"]:
            key = len(whole["annotations"])
            image = start + annotation["image_id"]
            whole["annotations"].append(annotation | {"id": key, "image_id": image})
            refs.append(
                {
                    "ref_id": key,
                    "ann_id": key,
                    "image_id": image,
                    "split": {"validation": "val"}.get(split, split),
                    "sentences": [{"sent_id": key, "sent": f"object {key}"}],
                }
            )
    (folder / "instances.json").write_text(json.dumps(whole))
    (folder / "refs.json").write_text(json.dumps(refs))


FORMATS = [
    ToyFormat("jsonl", write_jsonl, Jsonl, carries_classes=False),
    ToyFormat(
        "jsonl, centers in fractions",
        lambda folder: write_jsonl(folder, cxcywh_fractions, relative_polygon),
        Jsonl,
        {"box_format": BoxFormat.cxcywh, "normalized": True, "classes": CLASSES},
    ),
    ToyFormat(
        "jsonl, run lengths",
        lambda folder: write_jsonl(folder, xywh, compressed_rle),
        Jsonl,
        {"box_format": BoxFormat.xywh, "classes": CLASSES},
    ),
    ToyFormat(
        "coco, polygons", lambda folder: write_coco(folder, lambda w: [box_polygon(w)]), Coco
    ),
    ToyFormat("coco, compressed", lambda folder: write_coco(folder, compressed_rle), Coco),
    ToyFormat("coco, uncompressed", lambda folder: write_coco(folder, uncompressed_rle), Coco),
    ToyFormat("coco, roboflow", write_roboflow_coco, Coco),
    ToyFormat("yolo, boxes", lambda f: write_yolo(f, polygons=False), Yolo, carries_masks=False),
    ToyFormat("yolo, polygons", lambda f: write_yolo(f, polygons=True), Yolo),
    ToyFormat("yolo, roboflow", lambda f: write_yolo(f, polygons=True, roboflow=True), Yolo),
    ToyFormat(
        "voc, devkit",
        lambda folder: write_voc(folder, roboflow=False),
        Voc,
        {"one_based": True},
        carries_masks=False,
    ),
    ToyFormat(
        "voc, roboflow",
        lambda folder: write_voc(folder, roboflow=True),
        Voc,
        carries_masks=False,
    ),
    ToyFormat(
        "parquet",
        lambda folder: write_parquet_table(folder, arrow=False),
        Parquet,
        {"box_format": BoxFormat.xywh},
    ),
    ToyFormat("webdataset", write_shards, WebDataset, carries_classes=False),
    ToyFormat(
        "arrow",
        lambda folder: write_parquet_table(folder, arrow=True),
        Parquet,
        {"box_format": BoxFormat.xywh},
    ),
    ToyFormat(
        # Two objects of a class that touch would be one: the toy rectangles do not.
        "semantic masks",
        lambda folder: write_label_images(folder, "semantic"),
        SemanticMasks,
        {"first_class_id": 1, "instances": InstanceDefinition.components},
    ),
    ToyFormat(
        "instance masks, ids",
        lambda folder: write_label_images(folder, "ids"),
        InstanceMasks,
        {"first_class_id": 1, "divisor": 1000},
    ),
    ToyFormat(
        "instance masks, files",
        lambda folder: write_label_images(folder, "files"),
        InstanceMasks,
        {"layout": MaskLayout.files},
    ),
    ToyFormat("label studio", write_label_studio, LabelStudio),
    ToyFormat("labelme", write_labelme, LabelMe),
    ToyFormat("cvat", write_cvat, Cvat),
    ToyFormat("csv, boxes", write_csv, Csv, carries_masks=False, carries_classes=False),
    ToyFormat("refcoco", write_refcoco, RefCoco),  # a row per object, not per image
]
