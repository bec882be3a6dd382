"""Readers of official annotation files; each yields records."""

import csv
from collections import defaultdict
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path, PurePosixPath
from typing import Any

from palitune.codec.parsing import parse_json
from palitune.data.benchmarks.layout import Record, RecordReaderFn
from palitune.data.images.extracted import extract_to_cache
from palitune.data.sources.validation import read_json
from palitune.errors import DataError

_BULK_KEYS = """image_classes flickr_original_url flickr_300k_url question_tokens caption_tokens
    reference_tokens reference_strs lecture solution rationales tokens"""
_DROPPED_KEYS = frozenset(_BULK_KEYS.split())
"""Large values that no row uses."""
_DOWNLOAD = "Download the official version again."
_MAX_SPANS = 6
"""At most 720 orders; answers with more spans are long lists or text."""
_GQA_KEYS = ("imageId", "question", "answer", "types")


def json_list(*keys: str) -> RecordReaderFn:
    """Return a reader of a list of objects: the file itself, or the value under nested `keys`."""

    def read(file: Path) -> Iterator[Any]:
        content = _load_json(file)
        for key in keys:
            content = content.get(key) if isinstance(content, dict) else None
        if not isinstance(content, list):
            key = f" under {'.'.join(keys)!r}" if keys else ""
            raise DataError(f"{file}: file must contain a list{key}. {_DOWNLOAD}")
        yield from content

    return read


def json_dict(file: Path) -> Iterator[Any]:
    """Read an object of objects; the key of each is added as `key`."""
    content = _load_json(file)
    if not isinstance(content, dict):
        raise DataError(f"{file}: file must be an object of records. {_DOWNLOAD}")
    for key, record in content.items():
        yield record | {"key": key} if isinstance(record, dict) else record


def json_lines(file: Path) -> Iterator[Any]:
    """Read one object per line."""
    with file.open(encoding="utf-8") as content:
        for number, line in enumerate(content, 1):
            if line.strip():
                try:
                    yield parse_json(line, _drop_bulk)
                except ValueError as error:
                    raise DataError(
                        f"{file}:{number}: line must be JSON ({error}). {_DOWNLOAD}"
                    ) from error


def csv_rows(file: Path) -> Iterator[Record]:
    """Read comma-separated values with a header."""
    with file.open(encoding="utf-8-sig", newline="") as content:
        yield from csv.DictReader(content)


def molecules(file: Path) -> Iterator[Record]:
    """Read a table of molecules; an image without `image_id` is named by its file."""
    for record in csv_rows(file):
        yield {"image_id": PurePosixPath(record["file_path"]).stem} | record


def name_lines(file: Path) -> Iterator[Record]:
    """Read one name per line, as `{"key": name}`."""
    stripped = (line.strip() for line in file.read_text(encoding="utf-8").splitlines())
    return ({"key": name} for name in stripped if name)


def ocr_vqa(file: Path) -> Iterator[Record]:
    """Read books with several questions each, one record per question."""
    for book in json_dict(file):
        image = book["key"] + PurePosixPath(book["imageURL"]).suffix
        pairs = zip(book["questions"], book["answers"], strict=True)
        for index, (question, answer) in enumerate(pairs):
            yield {
                "key": f"{book['key']}-{index}",
                "book": book["key"],
                "image": image,
                "question": question,
                "answer": answer,
                "split": book["split"],
                "genre": book.get("genre"),
            }


def textcaps(file: Path) -> Iterator[Record]:
    """Read one caption per record and group them by image."""
    images: dict[str, Record] = {}
    for record in json_list("data")(file):
        image = images.setdefault(record["image_id"], record | {"captions": []})
        if record.get("caption_str"):
            image["captions"].append(record["caption_str"])
    return iter(images.values())


def widgets(file: Path) -> Iterator[Record]:
    """Read the widgets of the screens listed in a file; their captions are in a parent folder."""
    screens = {record["key"] for record in name_lines(file)}
    for record in csv_rows(ancestor_file(file, 2, "widget_captions.csv")):
        if record["screenId"] in screens:
            yield record | {"captions": record["captions"].split("|")}


def scicap(file: Path) -> Iterator[Record]:
    """Read the captions of the figures listed in a `file_idx.json`, one file per figure."""
    split = file.parent.name
    folder = ancestor_file(file, 5, "SciCap-Caption-All") / split
    for figure in json_list()(file):
        content = _load_json(folder / f"{Path(figure).stem}.json")
        yield {
            "key": Path(figure).stem,
            "caption": content["1-lowercase-and-token-and-remove-figure-index"]["caption"],
            "figure_type": content.get("figure-type"),
        }


def xm3600(file: Path) -> Iterator[Record]:
    """Read images with captions in many languages, one record per image and language."""
    for record in json_lines(file):
        for language, value in record.items():
            if isinstance(value, dict) and "caption" in value:
                captions = value["caption"]
                yield {"key": record["image/key"], "language": language, "captions": captions}


def coco35l(file: Path) -> Iterator[Record]:
    """Read machine translations of COCO captions, one record per image and language.

    The file contains English only as the source of the German translations.
    """
    captions_by_image: dict[tuple[int, str], list[str]] = defaultdict(list)
    for record in json_lines(file):
        image, language = int(record["image_id"].partition("_")[0]), record["trg_lang"]
        captions_by_image[image, language].append(record["translation_tokenized"])
        if language == "de":
            captions_by_image[image, "en"].append(record["caption_tokenized"])
    for (image, language), captions in captions_by_image.items():
        yield {"image": image, "language": language, "captions": captions}


def countbench(file: Path) -> Iterator[Record]:
    """Read a table of images and numbers; a second file has the questions in the same order."""
    from pyarrow import parquet

    questions = list(json_list()(ancestor_file(file, 1, "countbench_paired_questions.json")))
    rows = parquet.read_table(file, columns=["image", "number"]).to_pylist()
    if len(rows) != len(questions):
        raise DataError(
            f"{file}: table must have {len(questions)} rows, one per question, got {len(rows)}. "
            f"{_DOWNLOAD}"
        )
    for index, (row, question) in enumerate(zip(rows, questions, strict=True)):
        if row["image"] is not None:  # a tenth of the images no longer exists
            image = extract_to_cache(row["image"]["bytes"])
            yield {"key": index, "image": image, "number": row["number"]} | question


def ai2d(questions: Path) -> Iterator[Record]:
    """Read a folder with one file of questions per diagram."""
    test = {name["key"] for name in name_lines(ancestor_file(questions, 1, "ai2d_test_ids.csv"))}
    for file in sorted(questions.glob("*.json"), key=lambda file: (len(file.stem), file.stem)):
        content = _load_json(file)
        boxes = questions.parent / "annotations" / file.name
        for question, record in content["questions"].items():
            yield record | {
                "question": question,
                "image": content["imageName"],
                "boxes": str(boxes),
                "split": "test" if file.name.partition(".")[0] in test else "train",
            }


def span_permutations(answers: list[str]) -> list[str]:
    """Return the permutations of the spans of each answer ("a, b", "b, a"), up to six spans."""
    spans = (answer.split(", ") for answer in answers)
    orders = (permutations(s) if len(s) <= _MAX_SPANS else [tuple(s)] for s in spans)
    return list(dict.fromkeys(", ".join(order) for answer in orders for order in answer))


def ancestor_file(file: Path, levels: int, name: str) -> Path:
    """Return a file of the folder `levels` above. Raises DataError if it does not exist."""
    path = file.parents[levels - 1] / name
    if not path.exists():
        raise DataError(f"{path} does not exist; {file} requires it. Download it too.")
    return path


def _load_json(file: Path) -> Any:
    return read_json(file, _DOWNLOAD, _drop_bulk)


def _drop_bulk(record: Record) -> Any:
    """Drop large values while a file is parsed: programs of GQA, comments of annotators."""
    if "fullAnswer" in record:
        return {key: record[key] for key in _GQA_KEYS if key in record}
    if "answer_confidence" in record:
        return record["answer"]
    for key in _DROPPED_KEYS.intersection(record):
        del record[key]
    return record
