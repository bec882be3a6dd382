"""Official files of public benchmarks.

`data.layout=docvqa data.path=FOLDER` reads the official DocVQA files in a folder. A `BenchmarkSpec`
describes the files, the images, and the columns of question, answers, question type and id; the ids
become row ids, as submission files require.

In addition to the splits of the benchmark, `trainval` joins train and validation, as for most
published test scores, and `minitrain` and `minival` are the split that big_vision makes of the
training data of some benchmarks.
"""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from palitune.data.benchmarks.captions import CAPTION_BENCHMARKS
from palitune.data.benchmarks.documents import DOCUMENT_BENCHMARKS
from palitune.data.benchmarks.exams import EXAM_BENCHMARKS
from palitune.data.benchmarks.image_pairs import IMAGE_PAIR_BENCHMARKS
from palitune.data.benchmarks.layout import BenchmarkSpec, Record, SplitFile, minival_count
from palitune.data.benchmarks.photo_qa import PHOTO_BENCHMARKS
from palitune.data.benchmarks.rows import PARSE_ERRORS, RowReader, format_mismatch
from palitune.data.benchmarks.scene_text import SCENE_TEXT_BENCHMARKS
from palitune.data.benchmarks.structured_text import NOTATION_BENCHMARKS
from palitune.data.benchmarks.videos import VIDEO_BENCHMARKS
from palitune.data.images.video import VideoSampling
from palitune.data.sources.base import Source
from palitune.data.sources.split_files import canonical_split
from palitune.data.sources.validation import short_repr
from palitune.errors import DataError
from palitune.records import Row

BENCHMARKS: dict[str, BenchmarkSpec] = {
    **DOCUMENT_BENCHMARKS,
    **PHOTO_BENCHMARKS,
    **CAPTION_BENCHMARKS,
    **SCENE_TEXT_BENCHMARKS,
    **IMAGE_PAIR_BENCHMARKS,
    **VIDEO_BENCHMARKS,
    **EXAM_BENCHMARKS,
    **NOTATION_BENCHMARKS,
}
_MINI_SPLITS = ("minitrain", "minival")
_TRAINVAL = "trainval"


@dataclass(kw_only=True)
class Benchmark(Source):
    """Rows from the official files of a benchmark."""

    name: ClassVar[str] = "benchmark"
    patterns: ClassVar[tuple[str, ...]] = ()

    layout: str
    """Name of the benchmark, e.g. docvqa, vqav2 or textcaps."""
    images: str | None = None
    """Folder of the images, with the subfolders of the benchmark or without (null: `path`)."""
    filter: dict[str, list[str]] = field(default_factory=dict)
    """Attribute values of the rows to use, e.g. {question_type: [comp, presence]}."""
    rotations: str | None = None
    """Name of the CSV file of rotations of Open Images in the image folder, by which images are
    rotated upright (null: no rotation)."""
    frames: VideoSampling = field(default_factory=VideoSampling)
    """Selection of the frames of a video."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layout not in BENCHMARKS:
            raise ValueError(
                f"data.layout must be one of {', '.join(BENCHMARKS)}, got {self.layout!r}."
            )
        attributes = self._spec.attributes
        if unknown := [name for name in self.filter if name not in attributes]:
            raise ValueError(
                f"data.filter must use the attributes of {self.layout} "
                f"({', '.join(attributes) or 'none'}), got {unknown[0]!r}."
            )

    @property
    def _spec(self) -> BenchmarkSpec:
        return BENCHMARKS[self.layout]

    def read(self, file: Path, split: str) -> Iterator[Row | DataError]:
        root = self.folder() / Path(self.images or "").expanduser()
        reader = RowReader(
            self.layout, self._spec, str(root.absolute()), self.rotations, self.frames
        )
        for part in self._split_files(split):
            file = self._find_file(part.name, part.alternatives)
            for number, record in enumerate(self._read_records(part, split)):
                try:
                    row = reader.row(record, number, file, part)
                except DataError as error:
                    yield error
                    continue
                if all(row.attributes.get(name) in values for name, values in self.filter.items()):
                    yield row

    def files(self, split: str) -> Iterable[Path]:
        for part in self._split_files(split):
            yield self._find_file(part.name, part.alternatives)
            if part.join_file is not None:
                yield self._find_file(part.join_file)

    def candidates(self, split: str) -> list[Path]:
        """Return the first file of a split if all its files exist; `files` returns all of them."""
        files = list(self.files(split))
        return files[:1] if all(file.exists() for file in files) else []

    def available_splits(self) -> list[str]:
        names = [
            *map(canonical_split, self.splits),
            *self._spec.splits,
            _TRAINVAL,
            *_MINI_SPLITS,
        ]
        return [split for split in dict.fromkeys(names) if self.candidates(split)]

    def shares_rows(self, first: str, second: str) -> bool:
        composed = {_TRAINVAL, *_MINI_SPLITS}.intersection((first, second))
        return bool(composed) and {first, second} != set(_MINI_SPLITS)

    def _split_files(self, split: str) -> list[SplitFile]:
        """Return the files of a split; those set by the user replace those of the benchmark."""
        splits = self._spec.splits
        for name, file in self.splits.items():
            if canonical_split(name) == split:
                first = next(iter(splits.get(split, splits[next(iter(splits))])))
                return [replace(first, name=file, alternatives=())]
        if split in _MINI_SPLITS and split not in splits:
            parts = next((f for f in splits.values() if any(part.minival for part in f)), ())
            parts = tuple(p for p in parts if p.minival or split == "minitrain")
        elif split == _TRAINVAL and split not in splits:
            parts = (*splits.get("train", ()), *splits.get("validation", ()))
        else:
            parts = tuple(splits.get(split, ()))
        return [part for part in parts if self._may_match_filter(part)]

    def _may_match_filter(self, split_file: SplitFile) -> bool:
        """Return False if the metadata of a file exclude all its rows by `filter`."""
        return all(
            split_file.metadata.get(name) in (None, *values) for name, values in self.filter.items()
        )

    def _find_file(self, name: str, alternatives: Sequence[str] = ()) -> Path:
        """Return the path of a file, which need not exist; wildcards select the first match."""
        folder = self.folder()
        for pattern in (name, *alternatives):
            matches = sorted(folder.glob(pattern)) if "*" in pattern else []
            path = matches[0] if matches else folder / Path(pattern).expanduser()
            if path.exists():
                return path
        return folder / Path(name).expanduser()

    def _read_records(self, split_file: SplitFile, split: str) -> Iterator[Record]:
        spec = self._spec
        file = self._find_file(split_file.name, split_file.alternatives)
        joined: dict[Any, list[Record]] = defaultdict(list)
        try:
            if spec.join is not None and split_file.join_file is not None:
                for record in spec.join.read(self._find_file(split_file.join_file)):
                    joined[record.get(spec.join.right_on)].append(record)
            records: Iterable[Record] = spec.read(file)
            if split_file.record_filter is not None:
                key, value = split_file.record_filter
                records = (record for record in records if record[key] == value)
            if split in _MINI_SPLITS and split_file.minival:
                records = list(records)
                cut = len(records) - minival_count(split_file.minival, len(records))
                records = records[:cut] if split == "minitrain" else records[cut:]
            for record in filter(spec.include_record, records):
                if spec.join is not None and split_file.join_file is not None:
                    record = record | {"joined": joined.get(record[spec.join.left_on])}
                yield record
        except DataError:
            raise
        except PARSE_ERRORS as error:
            raise format_mismatch(str(file), self.layout, spec, error) from error

    def _missing_split_message(self, split: str) -> str:
        location, spec = self.resolved_path(), self._spec
        download = f"Download {self.layout} from {spec.homepage}"
        if not location.exists():
            return f"data.path: {location} does not exist. {download}."
        files = list(self.files(split))
        if not files:
            names = ", ".join(dict.fromkeys([*spec.splits, _TRAINVAL, *_MINI_SPLITS]))
            return f"{location}: split of {self.layout} must be one of {names}, got {split!r}."
        missing = next(file for file in files if not file.exists())
        entries = sorted(entry.name for entry in location.iterdir()) if location.is_dir() else []
        return (
            f"{location}: split {split!r} of {self.layout} must have "
            f"{os.path.relpath(missing, self.folder())}, got "
            f"{short_repr(', '.join(entries)) if entries else 'no files'}. {download}, or set "
            f"data.splits.{split}=FILE."
        )
