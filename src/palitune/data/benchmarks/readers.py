"""How official annotation files are read: as records, whatever form they have."""

import csv
import json
from collections import defaultdict
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path, PurePosixPath
from typing import Any

from palitune.data.benchmarks.layout import Record, RecordReaderFn
from palitune.data.images.extracted import extract_to_cache
from palitune.data.sources.validation import short_repr
from palitune.errors import DataError

_BULK_KEYS = """image_classes flickr_original_url flickr_300k_url question_tokens caption_tokens
    reference_tokens reference_strs lecture solution rationales tokens"""
_DROPPED_KEYS = frozenset(_BULK_KEYS.split())
"""Keys of bulk that no row needs."""
_MAX_SPANS = 6
"""720 orders; what has more is a list of many things, or text."""
_GQA_KEYS = ("imageId", "question", "answer", "types")


def json_list(*keys: str) -> RecordReaderFn:
    """Read a list of objects: the file itself, or what stands under its `keys`."""

    def read(file: Path) -> Iterator[Any]:
        content = _load_json(file)
        for key in keys:
            content = content.get(key) if isinstance(content, dict) else None
        if not isinstance(content, list):
            where = f"under {'.'.join(keys)!r}" if keys else "as a whole"
            raise DataError(f"{file}: another version of the file: no list {where}")
        yield from content

    return read


def json_dict(file: Path) -> Iterator[Any]:
    """Read an object of objects; the key of each becomes its `key`."""
    content = _load_json(file)
    if not isinstance(content, dict):
        raise DataError(f"{file}: another version of the file: no object of records")
    for key, record in content.items():
        yield record | {"key": key} if isinstance(record, dict) else record


def json_lines(file: Path) -> Iterator[Any]:
    """Read an object per line."""
    with file.open(encoding="utf-8") as content:
        for number, line in enumerate(content, 1):
            if line.strip():
                try:
                    yield json.loads(line, object_hook=_drop_bulk)
                except ValueError as mistake:
                    raise DataError(f"{file}:{number}: not JSON ({mistake})") from mistake


def csv_rows(file: Path) -> Iterator[Record]:
    """Read comma-separated values with a line of names."""
    with file.open(encoding="utf-8-sig", newline="") as content:
        yield from csv.DictReader(content)


def name_lines(file: Path) -> Iterator[Record]:
    """Read a name per line, as `{"key": name}`."""
    stripped = (line.strip() for line in file.read_text(encoding="utf-8").splitlines())
    return ({"key": name} for name in stripped if name)


def ocr_vqa(file: Path) -> Iterator[Record]:
    """Read books with several questions each, a record per question."""
    for book in json_dict(file):
        image = book["key"] + PurePosixPath(book["imageURL"]).suffix
        pairs = zip(book["questions"], book["answers"], strict=True)
        for index, (question, answer) in enumerate(pairs):
            yield {
                "key": f"{book['key']}-{index}",
                "image": image,
                "question": question,
                "answer": answer,
                "split": book["split"],
                "genre": book.get("genre"),
            }


def textcaps(file: Path) -> Iterator[Record]:
    """Read a caption per record, and join those of one image."""
    found: dict[str, Record] = {}
    for record in json_list("data")(file):
        image = found.setdefault(record["image_id"], record | {"captions": []})
        if record.get("caption_str"):
            image["captions"].append(record["caption_str"])
    return iter(found.values())


def widgets(file: Path) -> Iterator[Record]:
    """Read the widgets of the screens that a file names; their captions lie in a table above it."""
    screens = {record["key"] for record in name_lines(file)}
    for record in csv_rows(_ancestor_file(file, 2, "widget_captions.csv")):
        if record["screenId"] in screens:
            yield record | {"captions": record["captions"].split("|")}


def scicap(file: Path) -> Iterator[Record]:
    """Read the captions of the figures that a `file_idx.json` names, from a file for each."""
    split = file.parent.name
    folder = _ancestor_file(file, 5, "SciCap-Caption-All") / split
    for figure in json_list()(file):
        content = _load_json(folder / f"{Path(figure).stem}.json")
        written = content["1-lowercase-and-token-and-remove-figure-index"]
        kind = content.get("figure-type")
        yield {"key": Path(figure).stem, "caption": written["caption"], "figure_type": kind}


def xm3600(file: Path) -> Iterator[Record]:
    """Read images with captions in many languages, a record per image and language."""
    for record in json_lines(file):
        for language, written in record.items():
            if isinstance(written, dict) and "caption" in written:
                yield {
                    "key": record["image/key"],
                    "language": language,
                    "captions": written["caption"],
                }


def coco35l(file: Path) -> Iterator[Record]:
    """Read machine translations of COCO captions, a record per image and language.

    The file has no English of its own: it is what was translated into German.
    """
    found: dict[tuple[int, str], list[str]] = defaultdict(list)
    for record in json_lines(file):
        image, language = int(record["image_id"].partition("_")[0]), record["trg_lang"]
        found[image, language].append(record["translation_tokenized"])
        if language == "de":
            found[image, "en"].append(record["caption_tokenized"])
    for (image, language), captions in found.items():
        yield {"image": image, "language": language, "captions": captions}


def countbench(file: Path) -> Iterator[Record]:
    """Read a table of images and numbers; the questions lie beside it, in the same order."""
    from pyarrow import parquet

    questions = list(json_list()(_ancestor_file(file, 1, "countbench_paired_questions.json")))
    rows = parquet.read_table(file, columns=["image", "number"]).to_pylist()
    if len(rows) != len(questions):
        raise DataError(f"{file}: {len(rows)} rows, but {len(questions)} questions beside it")
    for index, (row, asked) in enumerate(zip(rows, questions, strict=True)):
        if row["image"] is not None:  # a tenth of the images is gone
            image = extract_to_cache(row["image"]["bytes"])
            yield {"key": index, "image": image, "number": row["number"]} | asked


def ai2d(questions: Path) -> Iterator[Record]:
    """Read a folder with a file of questions per diagram."""
    test = {name["key"] for name in name_lines(_ancestor_file(questions, 1, "ai2d_test_ids.csv"))}
    for file in sorted(questions.glob("*.json"), key=lambda file: (len(file.stem), file.stem)):
        content = _load_json(file)
        boxes = questions.parent / "annotations" / file.name
        for question, written in content["questions"].items():
            yield written | {
                "question": question,
                "image": content["imageName"],
                "boxes": str(boxes),
                "split": "test" if file.name.partition(".")[0] in test else "train",
            }


def span_permutations(answers: list[str]) -> list[str]:
    """Return every order of the spans of each answer ("a, b" is "b, a"); of up to six spans."""
    spans = (answer.split(", ") for answer in answers)
    orders = (permutations(each) if len(each) <= _MAX_SPANS else [tuple(each)] for each in spans)
    return list(dict.fromkeys(", ".join(order) for each in orders for order in each))


def sibling_file(file: Path, name: str) -> Path:
    """Return another file of the same folder."""
    return _ancestor_file(file, 1, name)


def _ancestor_file(file: Path, levels: int, name: str) -> Path:
    """Return what lies so many folders up, by its name."""
    found = file.parents[levels - 1] / name
    if not found.exists():
        raise DataError(f"{found} does not exist; {file} is of no use without it")
    return found


def _load_json(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes(), object_hook=_drop_bulk)
    except (ValueError, RecursionError) as mistake:
        raise DataError(
            f"{file}: not JSON ({short_repr(str(mistake))}); download it anew"
        ) from mistake


def _drop_bulk(record: Record) -> Any:
    """Drop bulk while a file is parsed: GQA's programs, and what annotators said besides."""
    if "fullAnswer" in record:
        return {key: record[key] for key in _GQA_KEYS if key in record}
    if "answer_confidence" in record:
        return record["answer"]
    for key in _DROPPED_KEYS.intersection(record):
        del record[key]
    return record
