"""Description of a benchmark's official files: their names, and the columns of a row in them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from palitune.records import Instance, Size

Record = dict[str, Any]
RecordReaderFn = Callable[[Path], Iterable[Any]]
"""Reads the records of an annotation file. Invalid records are reported when the row is built."""
Column = str | Callable[[Record], Any]
"""Path of a value in a record: keys and list positions joined by dots, `*` for every element of a
list (`answers.*.answer`); or a function that returns the value."""


@dataclass(frozen=True, kw_only=True)
class SplitFile:
    """An annotation file of a split."""

    name: str
    """Path relative to the folder of the data; wildcards select the first match."""
    alternatives: Sequence[str] = ()
    """Names of the same file in other official archives, as `name`."""
    record_filter: tuple[str, Any] | None = None
    """Key and value of the records to use, if the file contains several splits."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Values added to every record of the file, e.g. {"half": "human"}."""
    minival: float = 0
    """Number of last records (below 1: fraction) that form the split `minival`."""
    join_file: str | None = None
    """Second file, whose records are joined to those of this one."""
    may_lack_images: bool = False
    """Whether official records name images that do not exist; they are left out and counted."""


@dataclass(frozen=True, kw_only=True)
class RecordJoin:
    """Join of the records of a second file, as a list under the key `joined`."""

    read: RecordReaderFn
    left_on: str
    """Key of a record of the first file."""
    right_on: str
    """Key of a record of the second file with the same value."""


@dataclass(frozen=True, kw_only=True)
class BenchmarkSpec:
    """Description of one benchmark."""

    homepage: str
    """Address for downloading its files."""
    splits: Mapping[str, Sequence[SplitFile]]
    read: RecordReaderFn
    images: Sequence[str]
    """Possible paths of the image of a record, by preference, with {keys} of the record and of
    `SplitFile.metadata`."""
    fields_per_image: Callable[[Record], Sequence[Record]] | None = None
    """Further {keys} for each image of a record with several images."""
    video_segment: Callable[[Record], tuple[float, float | None]] | None = None
    """For videos: start and end (None: the end of the video) of the segment, in seconds."""
    id: str = "{number}"
    """Row id with {keys} as in `images`; {number} counts the records of the file from 0."""
    join: RecordJoin | None = None
    include_record: Callable[[Record], bool] = bool
    """Returns whether a record belongs to the benchmark."""
    question: Column | None = None
    answers: Column | None = None
    choices: Column | None = None
    hint: Column | None = None
    captions: Column | None = None
    language: Column | None = None
    text: Column | None = None
    attributes: Mapping[str, Column] = field(default_factory=dict)
    """Columns by whose values metrics are also reported, by attribute name."""
    make_instances: Callable[[Record, str, Size], Iterable[Instance]] | None = None
    """Returns the instances of a record, given the path and size of its image."""
    transform_image: Callable[[Record, str], str | None] | None = None
    """Returns the path of a changed image, given a record and its image; None for no change."""


def value_at(record: Any, column: Column) -> Any:
    """Return the value of a column; None if a step of its path is absent or null."""
    if not isinstance(column, str):
        return column(record)
    value = record
    step, _, rest = column.partition(".")
    if step == "*":
        return None if value is None else [value_at(item, rest) if rest else item for item in value]
    if isinstance(value, list):
        value = value[int(step)] if int(step) < len(value) else None
    else:
        value = value.get(step)
    return value_at(value, rest) if rest and value is not None else value


def minival_count(minival: float, records: int) -> int:
    """Return the number of records of a file that form the split `minival`."""
    return int(minival) if minival >= 1 else round(minival * records)


SplitFiles = dict[str, tuple[SplitFile, ...]]
SPLIT_NAMES = {"train": "train", "validation": "val", "test": "test"}
"""Names of the splits in most official files."""
TEXTVQA_SPLITS = (
    ("train", "train", "train_images"),
    ("validation", "val", "train_images"),
    ("test", "test", "test_images"),
)
"""Splits of TextVQA and TextCaps: name, official name, folder of the images."""


def by_split(
    name: str,
    splits: Mapping[str, str] = SPLIT_NAMES,
    *,
    alternatives: Sequence[str] = (),
    join: str | None = None,
    minival: float = 0,
) -> SplitFiles:
    """Return one file per split.

    Args:
        name: Name of the file, with {} for the official name of the split.
        splits: Official name of each split.
        alternatives: Other names of the file, with {} too.
        join: Name of the file to join, with {} too.
        minival: Size of `minival` at the end of the split `train`.
    """
    return {
        split: (
            SplitFile(
                name=name.format(official),
                alternatives=tuple(other.replace("{}", official) for other in alternatives),
                metadata={"split": official},
                join_file=join and join.format(official),
                minival=minival if split == "train" else 0,
            ),
        )
        for split, official in splits.items()
    }


def by_value(name: str, key: str, values: Iterable[str]) -> tuple[SplitFile, ...]:
    """Return one file per value, which replaces {} in `name` and becomes the metadata `key`."""
    return tuple(SplitFile(name=name.format(value), metadata={key: value}) for value in values)


def in_one_file(name: str, splits: Mapping[str, Any], *, minival: float = 0) -> SplitFiles:
    """Return splits of one file, by the value of `split` in its records; see `by_split`."""
    return {
        split: (
            SplitFile(
                name=name,
                record_filter=("split", value),
                minival=minival if split == "train" else 0,
            ),
        )
        for split, value in splits.items()
    }


def choice_texts(record: Record) -> list[str]:
    """Return the choices of a multiple-choice question."""
    return list(map(str, record["choices"] if "choices" in record else record["answerTexts"]))


def chosen(index_key: str) -> Column:
    """Return the column of the choice with the index under a key; test sets do not contain it."""
    return lambda record: (
        None if record.get(index_key) is None else choice_texts(record)[record[index_key]]
    )
