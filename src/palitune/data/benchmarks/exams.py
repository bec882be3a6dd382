"""Exam benchmarks: descriptions of their official files."""

import ast
from collections.abc import Iterator
from pathlib import Path
from string import ascii_uppercase as LETTERS
from typing import Any

from palitune.data.benchmarks.layout import BenchmarkSpec, Record, SplitFile, by_value
from palitune.data.images.extracted import extract_to_cache
from palitune.errors import DataError

_MAX_IMAGES = 7
"""Maximum number of images of an MMMU question."""


def _read_parquet(file: Path, *image_columns: str) -> Iterator[Record]:
    """Read a table row by row; images in the table become paths in the cache."""
    from pyarrow import ArrowInvalid, parquet

    try:
        table = parquet.ParquetFile(file)
    except ArrowInvalid as error:
        raise DataError(f"{file}: file must be a Parquet table. Download it again.") from error
    for batch in table.iter_batches(batch_size=16):
        for record in batch.to_pylist():
            images = [record.pop(name) for name in image_columns]
            paths = [extract_to_cache(image["bytes"]) for image in images if image]
            yield record | {"paths": paths}


def _read_mmmu(file: Path) -> Iterator[Record]:
    names = [f"image_{number}" for number in range(1, _MAX_IMAGES + 1)]
    for record in _read_parquet(file, *names):
        yield record | {"options": ast.literal_eval(record["options"])}


def _read_mathvista(file: Path) -> Iterator[Record]:
    return _read_parquet(file, "decoded_image")


def _image_fields(record: Record) -> list[Record]:
    return [{"path": path} for path in record["paths"]]


def _correct_option(record: Record) -> Any:
    """Return the text of the correct option; test sets contain a question mark instead."""
    answer = record["answer"]
    if answer == "?":
        return None
    if record["options"]:
        return record["options"][LETTERS.index(answer)]
    # An open question with several accepted answers has their list as text.
    return ast.literal_eval(answer) if answer.startswith("[") else answer


_SUBJECTS = """Accounting Agriculture Architecture_and_Engineering Art Art_Theory
    Basic_Medical_Science Biology Chemistry Clinical_Medicine Computer_Science Design
    Diagnostics_and_Laboratory_Medicine Economics Electronics Energy_and_Power Finance Geography
    History Literature Manage Marketing Materials Math Mechanical_Engineering Music Pharmacy Physics
    Psychology Public_Health Sociology"""

EXAM_BENCHMARKS: dict[str, BenchmarkSpec] = {
    "mmmu": BenchmarkSpec(
        homepage="the hub's MMMU/MMMU, a folder per subject",
        splits={
            split: by_value(f"{{}}/{official}-*.parquet", "subject", _SUBJECTS.split())
            for split, official in {"train": "dev", "validation": "validation"}.items()
        },
        read=_read_mmmu,
        images=["{path}"],
        fields_per_image=_image_fields,
        id="{id}",
        question="question",
        answers=_correct_option,
        choices=lambda record: record["options"] or None,
        attributes={"subject": "subject", "question_type": "question_type"},
    ),
    "mathvista": BenchmarkSpec(
        homepage="the hub's AI4Math/MathVista (data)",
        splits={"testmini": (SplitFile(name="testmini-*.parquet"),)},
        read=_read_mathvista,
        images=["{path}"],
        fields_per_image=_image_fields,
        id="{pid}",
        question="question",
        answers="answer",
        choices="choices",
        attributes={"question_type": "question_type", "answer_type": "answer_type"},
    ),
}
