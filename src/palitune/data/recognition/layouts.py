"""Recognition of layouts: a function of a listing that returns every format that fits."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from palitune.data.recognition.columns import (
    csv_tasks,
    first_record,
    has_image,
    parquet_columns,
    tasks_of_columns,
)
from palitune.data.recognition.listing import Listing, example_names
from palitune.data.sources.columns.csv_file import parse_header
from palitune.data.sources.masks.folder import MASK_FOLDER_NAMES
from palitune.data.sources.split_files import SPLITS

_SPLIT_WORDS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A format that a folder fits."""

    data: str
    """Option of `data`."""
    files: tuple[str, ...]
    """Annotation files by which it was recognized."""
    tasks: tuple[str, ...]
    """Tasks that the data fits, the usual one first; several have different targets."""
    also: str | None = None
    """Another task that the same annotations fit, e.g. segmentation beside detection."""
    settings: tuple[str, ...] = ()
    """Settings that the format or task requires."""
    missing: str = ""
    """The part that is missing to read the data, as a sentence with the way out."""
    split_files: bool = True
    """Whether `files` are the annotation files of splits."""

    def describe(self) -> str:
        """Return the format with the files by which it was recognized."""
        return f"{FORMAT_NAMES[self.data]} ({example_names(self.files)})"


FORMAT_NAMES = {
    "coco": "COCO",
    "yolo": "YOLO",
    "voc": "Pascal VOC",
    "label_studio": "Label Studio",
    "labelme": "LabelMe",
    "cvat": "CVAT",
    "jsonl": "JSON lines",
    "csv": "CSV",
    "parquet": "Parquet",
    "hub": "a folder of the Hugging Face hub",
    "webdataset": "WebDataset",
    "semantic_masks": "masks as images",
    "instance_masks": "masks as images, one per object",
}


def recognize(listing: Listing) -> list[Layout]:
    """Return every format that a folder fits, the formats in a fixed order."""
    return [layout for find in _RECOGNIZERS for layout in find(listing)]


def split_of(name: str) -> str | None:
    """Return the split that a path is named after; None if no part of it is a split's name.

    The part closest to the file decides: `train/valid.json` belongs to validation.
    """
    for part in reversed(PurePosixPath(name).parts):
        words = re.findall(r"[a-z]+", part.lower())
        for split in SPLITS:
            if set(_SPLIT_WORDS[split]) & set(words):
                return split
    return None


def _json_layouts(listing: Listing) -> Iterator[Layout]:
    """Recognize COCO, Label Studio, LabelMe and lists of records, all in .json files."""
    by_kind: dict[str, list[str]] = {}
    for name in listing.probes(".json"):
        if kind := json_kind(listing.text(name)):
            by_kind.setdefault(kind, []).append(name)
    # Captions may have a file of their own next to the objects, as in COCO's download.
    if instances := by_kind.get("coco"):
        texts = "".join(map(listing.text, instances))
        has_masks = re.search(r'"segmentation"\s*:\s*(\{|\[\s*\[)', texts) is not None
        captions = by_kind.get("coco_captions", [])
        tasks: tuple[str, ...] = ("detection", "caption") if captions else ("detection",)
        files = (*instances, *captions)
        also = "segmentation" if has_masks else None
        yield Layout(data="coco", files=files, tasks=tasks, also=also)
    elif captions := by_kind.get("coco_captions", []):
        yield Layout(data="coco", files=tuple(captions), tasks=("caption",))
    if exports := by_kind.get("label_studio"):
        yield _label_studio(listing, exports)
    if exports := by_kind.get("label_studio_min"):
        missing = "Export the project as JSON, not as JSON-MIN."
        yield Layout(data="label_studio", files=tuple(exports), tasks=(), missing=missing)
    if shapes := by_kind.get("labelme"):
        text = "".join(map(listing.text, shapes))
        also = "segmentation" if re.search(r'"(polygon|mask|circle)"', text) else None
        yield Layout(
            data="labelme", files=tuple(shapes), tasks=("detection",), also=also, split_files=False
        )
    if records := by_kind.get("records"):
        yield _record_layout(listing, records)


def json_kind(text: str) -> str | None:
    """Return the format of a JSON file from its start and end; None if it is none of ours."""
    record = first_record(text) if text.lstrip().startswith("[") else {}
    if isinstance(record.get("data"), dict) and {"annotations", "predictions"} & record.keys():
        return "label_studio"
    if "annotation_id" in record and "annotator" in record:
        return "label_studio_min"
    if has_image(record) and tasks_of_columns(record):
        return "records"
    if text.lstrip().startswith("["):
        # The first task of an export may be longer than the part of the file that was read.
        is_export = '"annotations"' in text and '"from_name"' in text and '"data"' in text
        return "label_studio" if is_export else None
    keys = set(re.findall(r'"(\w+)"\s*:\s*\[', text))
    if "shapes" in keys:
        return "labelme"
    if "images" not in keys or not {"annotations", "categories"} & keys:
        return None
    return "coco_captions" if '"caption"' in text and '"bbox"' not in text else "coco"


def _label_studio(listing: Listing, files: list[str]) -> Layout:
    text = "".join(map(listing.text, files))
    kinds = set(re.findall(r'"type"\s*:\s*"(\w+)"', text))
    has_masks = bool({"polygonlabels", "brushlabels", "polygon", "brush"} & kinds)
    has_boxes = bool({"rectanglelabels", "ellipselabels", "labels"} & kinds)
    tasks: list[str] = []
    if has_boxes or has_masks:
        tasks.append("detection")
    if "choices" in kinds:
        tasks.append("vqa")
    if "textarea" in kinds:
        tasks += ["ocr"] if has_boxes else ["caption", "ocr"]
    has_questions = re.search(r'"question"\s*:', text) is not None
    settings = ("task.template=classify",) if tasks == ["vqa"] and not has_questions else ()
    missing = "" if tasks else "Label some tasks with boxes, polygons, choices or texts first."
    if not tasks and any(kind.startswith("video") for kind in kinds):
        missing = "Videos cannot be read: export their frames as images and label these."
    return Layout(
        data="label_studio", files=tuple(files), tasks=tuple(tasks), settings=settings,
        also="segmentation" if has_masks else None, missing=missing,
    )  # fmt: skip


def _yolo(listing: Listing) -> Iterator[Layout]:
    descriptions = [
        name
        for name in listing.with_suffix(".yaml", ".yml")
        if "/" not in name and re.search(r"^names\s*:", listing.text(name), re.MULTILINE)
    ]
    labels = [name for name in listing.probes(".txt") if _is_yolo_label(listing.text(name))]
    has_polygons = any(len(listing.text(name).split("\n")[0].split()) > 5 for name in labels)
    also = "segmentation" if has_polygons else None
    common = {"data": "yolo", "tasks": ("detection",), "also": also, "split_files": False}
    if descriptions:
        yield Layout(files=tuple(descriptions), **common)  # type: ignore[arg-type]
    elif labels:
        missing = (
            "Write data.yaml with the classes and the folders of images, e.g. names: [boat, buoy] "
            "and train: images/train."
        )
        yield Layout(files=tuple(labels), missing=missing, **common)  # type: ignore[arg-type]


def _is_yolo_label(text: str) -> bool:
    """Return whether the first line is a class number and fractions."""
    line = next(iter(text.splitlines()), "")
    if not re.fullmatch(r"\d+( +-?\d*\.?\d+(e-?\d+)?){4,}\s*", line):
        return False
    return all(float(word) <= 1.05 for word in line.split()[1:])


def _xml_layouts(listing: Listing) -> Iterator[Layout]:
    roots: dict[str, list[str]] = {}
    for name in listing.probes(".xml"):
        if root := re.search(r"<(annotations?)>", listing.text(name)):
            roots.setdefault(root[1], []).append(name)
    if files := roots.get("annotation"):
        yield Layout(data="voc", files=tuple(files), tasks=("detection",), split_files=False)
    if files := roots.get("annotations"):
        text = "".join(map(listing.text, files))
        has_shapes = re.search(r"<(box|polygon|mask|ellipse) ", text) is not None
        tasks = (["detection"] if has_shapes else []) + (["vqa"] if "<tag " in text else [])
        missing = "Export the task as 'CVAT for images 1.1'." if "<track " in text else ""
        yield Layout(
            data="cvat", files=tuple(files), tasks=tuple(tasks), missing=missing,
            also="segmentation" if re.search(r"<(polygon|mask) ", text) else None,
            settings=("task.template=classify",) if tasks == ["vqa"] else (),
        )  # fmt: skip


def _jsonl(listing: Listing) -> Iterator[Layout]:
    if files := list(listing.probes(".jsonl")):
        yield _record_layout(listing, files)


def _record_layout(listing: Listing, files: list[str]) -> Layout:
    records = [first_record(listing.text(name)) for name in files]
    columns = {column for record in records for column in record}
    suffix = next((str(r["suffix"]) for r in records if r.get("suffix")), "")
    tasks = tasks_of_columns(columns, suffix)
    missing = _missing_columns(sorted(columns), tasks)
    return Layout(data="jsonl", files=tuple(files), tasks=tasks, missing=missing)


def _missing_columns(columns: list[str], tasks: tuple[str, ...]) -> str:
    """Return what columns lack to be read; empty if nothing."""
    shown = ", ".join(columns) or "none"
    if not has_image(columns):
        return f"The columns are {shown}: set data.columns.image=COLUMN to the one of the image."
    if not tasks:
        return (
            f"The columns are {shown}: no task fits them. Name them prefix and suffix, question "
            "and answer, caption, text, json or objects, or map them with data.columns."
        )
    return ""


def _csv(listing: Listing) -> Iterator[Layout]:
    by_file = {name: parse_header(listing.text(name))[0] for name in listing.probes(".csv", ".tsv")}
    files = [name for name, columns in by_file.items() if csv_tasks(columns)]
    if files:
        columns = list(dict.fromkeys(c for name in files for c in by_file[name]))
        tasks = csv_tasks(columns)
        missing = "" if tasks == ("detection",) else _missing_columns(columns, tasks)
        if "filename" in columns:
            missing = ""
        yield Layout(data="csv", files=tuple(files), tasks=tasks, missing=missing)


def _tables(listing: Listing) -> Iterator[Layout]:
    files = listing.with_suffix(".parquet", ".arrow")
    if not files:
        return
    columns = parquet_columns(listing.read(files[0])) if files[0].endswith(".parquet") else []
    tasks = tasks_of_columns(columns)
    missing = _missing_columns(columns, tasks) if columns else ""
    is_named = any(split_of(name) for name in files)
    data = "parquet" if is_named else "hub"
    yield Layout(data=data, files=tuple(files), tasks=tasks, missing=missing, split_files=False)


def _archives(listing: Listing) -> Iterator[Layout]:
    if files := [name for name in listing.with_suffix(".tar") if split_of(name)]:
        yield Layout(data="webdataset", files=tuple(files), tasks=(), split_files=False)


def _masks(listing: Listing) -> Iterator[Layout]:
    masks = [n for n in listing.images if set(MASK_FOLDER_NAMES) & set(n.split("/")[:-1])]
    pictures = [name for name in listing.images if "images" in name.split("/")[:-1]]
    if not masks or not pictures:
        return
    stems = {PurePosixPath(name).stem for name in pictures}
    is_nested = all(PurePosixPath(name).parent.name in stems for name in masks)
    data = "instance_masks" if is_nested else "semantic_masks"
    settings = ("data.layout=files",) if is_nested else ()
    has_names = "classes.txt" in listing.files
    missing = "" if has_names else (
        "List the classes in classes.txt, one per line in the order of their numbers, or set "
        "data.classes=[...]."
    )  # fmt: skip
    yield Layout(
        data=data, files=tuple(masks), tasks=("segmentation",), settings=settings,
        missing=missing, split_files=False,
    )  # fmt: skip


_RECOGNIZERS: tuple[Callable[[Listing], Iterator[Layout]], ...] = (
    _json_layouts, _yolo, _xml_layouts, _jsonl, _csv, _tables, _archives, _masks,
)  # fmt: skip
