"""What the official files of a benchmark look like: which files, and where in them a row lies."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from palitune.records import Instance, Size

Record = dict[str, Any]
RecordReaderFn = Callable[[Path], Iterable[Any]]
"""Reads the records of an annotation file; what is no record is told when its row is made."""
Column = str | Callable[[Record], Any]
"""Where a record holds a value: keys and list positions joined by dots, `*` for every element of a
list (`answers.*.answer`); or a function that makes the value."""


@dataclass(frozen=True, kw_only=True)
class SplitFile:
    """An annotation file that a split is made of."""

    name: str
    """Relative to the folder of the data; with wildcards the first that matches."""
    record_filter: tuple[str, Any] | None = None
    """Key and value of the records to take, where the file holds several splits."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """What the file's name says of all its records, e.g. {"half": "human"}."""
    minival: float = 0
    """How many of its last records (below 1: which share) are the split `minival`."""
    join_file: str | None = None
    """File of what is joined to its records."""


@dataclass(frozen=True, kw_only=True)
class RecordJoin:
    """Records of a second file that belong to one of the first: put under its key `joined`."""

    read: RecordReaderFn
    left_on: str
    """Key of a record of the first file."""
    right_on: str
    """Key of the second file that has the same value."""


@dataclass(frozen=True, kw_only=True)
class BenchmarkSpec:
    """One benchmark."""

    homepage: str
    """Where its files are had."""
    splits: Mapping[str, Sequence[SplitFile]]
    read: RecordReaderFn
    images: Sequence[str]
    """Where the image of a record may lie, the best place first; {keys} of the record and of
    `File.told` are filled in, and {split}."""
    fields_per_image: Callable[[Record], Sequence[Record]] | None = None
    """What else is filled in for each image of a record, where it has several."""
    video_segment: Callable[[Record], tuple[float, float | None]] | None = None
    """Where a record's image is a video, of which frames are taken: start and end of the part that
    is meant, in seconds."""
    id: str = "{number}"
    """Row id, filled in likewise; {number} counts the records of the file from 0."""
    join: RecordJoin | None = None
    include_record: Callable[[Record], bool] = bool
    """Whether a record becomes a row; the others are no part of the benchmark."""
    question: Column | None = None
    answers: Column | None = None
    choices: Column | None = None
    hint: Column | None = None
    captions: Column | None = None
    language: Column | None = None
    text: Column | None = None
    attributes: Mapping[str, Column] = field(default_factory=dict)
    """What numbers are told by besides: row attribute to column."""
    make_instances: Callable[[Record, str, Size], Iterable[Instance]] | None = None
    """Makes the instances of a record, given its image's path and size."""
    transform_image: Callable[[Record, str], str | None] | None = None
    """Makes another image of that at a path, where the benchmark asks for one."""


def value_at(record: Any, column: Column) -> Any:
    """Return the value of a column; None where a step of the way is absent or null."""
    if not isinstance(column, str):
        return column(record)
    value = record
    step, _, rest = column.partition(".")
    if step == "*":
        return None if value is None else [value_at(each, rest) if rest else each for each in value]
    if isinstance(value, list):
        value = value[int(step)] if int(step) < len(value) else None
    else:
        value = value.get(step)
    return value_at(value, rest) if rest and value is not None else value


def minival_count(minival: float, records: int) -> int:
    """Return how many of a file's records are the split `minival`."""
    return int(minival) if minival >= 1 else round(minival * records)


SplitFiles = dict[str, tuple[SplitFile, ...]]
SPLIT_NAMES = {"train": "train", "validation": "val", "test": "test"}
"""Names of the splits in most files."""


def by_split(name: str, **splits: str) -> SplitFiles:
    """Return a file per split, which calls it differently; {} stands for that in its name."""
    return {
        split: (SplitFile(name=name.format(there), metadata={"split": there}),)
        for split, there in (splits or SPLIT_NAMES).items()
    }


def in_one_file(name: str, **splits: Any) -> SplitFiles:
    """Return splits out of one file, by what its records hold under `split`."""
    return {
        s: (SplitFile(name=name, record_filter=("split", there)),) for s, there in splits.items()
    }


def choice_texts(record: Record) -> list[str]:
    written = record["choices"] if "choices" in record else record["answerTexts"]
    return [str(choice) for choice in written]


def chosen(index_key: str) -> Column:
    """Return the choice whose number stands under a key; test sets do not tell it."""
    return lambda record: (
        None if record.get(index_key) is None else choice_texts(record)[record[index_key]]
    )
