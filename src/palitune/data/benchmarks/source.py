"""Benchmarks as their authors publish them: official files, described by a table of layouts.

`data.layout=docvqa data.path=FOLDER` reads the official DocVQA files in a folder. A layout names
its files, the images that belong to them, and where in a record the question, the answers, the
question type and the id lie; ids become row ids, as submission files need them.

Besides the splits of the benchmark there are `trainval`, both of these, which published test scores
mostly come from; and, where big_vision holds out the end of its training data, `minitrain` and
`minival`.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from palitune.data.benchmarks.captions import CAPTION_BENCHMARKS
from palitune.data.benchmarks.documents import DOCUMENT_BENCHMARKS
from palitune.data.benchmarks.exams import EXAM_BENCHMARKS
from palitune.data.benchmarks.image_pairs import IMAGE_PAIR_BENCHMARKS
from palitune.data.benchmarks.layout import BenchmarkSpec, Record, SplitFile, minival_count
from palitune.data.benchmarks.photo_qa import PHOTO_BENCHMARKS
from palitune.data.benchmarks.rows import PARSE_ERRORS, RowReader, format_mismatch_message
from palitune.data.benchmarks.scene_text import SCENE_TEXT_BENCHMARKS
from palitune.data.benchmarks.structured_text import NOTATION_BENCHMARKS
from palitune.data.benchmarks.videos import VIDEO_BENCHMARKS
from palitune.data.images.video import VideoSampling
from palitune.data.sources import split_files
from palitune.data.sources.base import Source
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
    """Rows out of the official files of a benchmark."""

    name: ClassVar[str] = "benchmark"
    patterns: ClassVar[tuple[str, ...]] = ()

    layout: str
    """Which benchmark, e.g. docvqa, vqav2 or textcaps."""
    images: str | None = None
    """Folder that the images lie in as the benchmark has them, or directly; null: `path`."""
    filter: dict[str, list[str]] = field(default_factory=dict)
    """Values of attributes that rows must have, e.g. {question_type: [comp, presence]}."""
    rotations: str | None = None
    """Name of Open Images' csv of rotations, in the folder of the images: they are turned upright
    as it says. Null: images stay as they are."""
    frames: VideoSampling = field(default_factory=VideoSampling)
    """Which frames of a video are the images of its row."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layout not in BENCHMARKS:
            raise ValueError(f"data.layout: {self.layout!r} is not one of {', '.join(BENCHMARKS)}")
        known = self._spec.attributes
        if unknown := [name for name in self.filter if name not in known]:
            raise ValueError(
                f"data.filter: {self.layout} tells no {unknown[0]!r}; it tells "
                f"{', '.join(known) or 'nothing'}"
            )

    @property
    def _spec(self) -> BenchmarkSpec:
        return BENCHMARKS[self.layout]

    def read(self, file: Path, split: str) -> Iterator[Row | DataError]:
        root = self.folder() / Path(self.images or "").expanduser()
        reader = RowReader(self.layout, self._spec, root, self.rotations, self.frames)
        for part in self._split_files(split):
            there = self._find_file(part.name)
            for number, record in enumerate(self._read_records(part, split)):
                try:
                    row = reader.row(record, number, there, part)
                except DataError as mistake:
                    yield mistake
                    continue
                if all(row.attributes.get(name) in values for name, values in self.filter.items()):
                    yield row

    def files(self, split: str) -> Iterable[Path]:
        for part in self._split_files(split):
            for name in filter(None, (part.name, part.join_file)):
                yield self._find_file(name)

    def candidates(self, split: str) -> list[Path]:
        """Return the first file of a split where all are there; `files` lists them."""
        parts = self._split_files(split)
        needed = [name for part in parts for name in (part.name, part.join_file) if name]
        there = all(self._find_file(name).exists() for name in needed)
        return [self._find_file(parts[0].name)] if parts and there else []

    def available_splits(self) -> list[str]:
        names = [
            *map(split_files.canonical_split, self.splits),
            *self._spec.splits,
            _TRAINVAL,
            *_MINI_SPLITS,
        ]
        return [split for split in dict.fromkeys(names) if self.candidates(split)]

    def _split_files(self, split: str) -> list[SplitFile]:
        """Return the files of a split, those of the user in place of the benchmark's."""
        splits = self._spec.splits
        for name, file in self.splits.items():
            if split_files.canonical_split(name) == split:
                first = next(iter(splits.get(split, splits[next(iter(splits))])))
                return [replace(first, name=file)]
        if split in _MINI_SPLITS and split not in splits:
            parts = next((f for f in splits.values() if any(part.minival for part in f)), ())
            parts = tuple(p for p in parts if p.minival or split == "minitrain")
        elif split == _TRAINVAL and split not in splits:
            parts = (*splits.get("train", ()), *splits.get("validation", ()))
        else:
            parts = tuple(splits.get(split, ()))
        return [part for part in parts if self._may_match_filter(part)]

    def _may_match_filter(self, split_file: SplitFile) -> bool:
        """Tell whether `filter` leaves any row of a file, as far as its name tells."""
        return all(
            split_file.metadata.get(name) in (None, *values) for name, values in self.filter.items()
        )

    def _find_file(self, name: str) -> Path:
        """Return the file of that name; where it is not there the path that it should have."""
        folder = self.folder()
        matches = sorted(folder.glob(name)) if "*" in name else []
        return matches[0] if matches else folder / Path(name).expanduser()

    def _read_records(self, split_file: SplitFile, split: str) -> Iterator[Record]:
        file, layout = self._find_file(split_file.name), self._spec
        joined: dict[Any, list[Record]] = defaultdict(list)
        try:
            if layout.join is not None and split_file.join_file is not None:
                for record in layout.join.read(self._find_file(split_file.join_file)):
                    joined[record.get(layout.join.right_on)].append(record)
            records: Iterable[Record] = layout.read(file)
            if split_file.record_filter is not None:
                key, wanted = split_file.record_filter
                records = (record for record in records if record[key] == wanted)
            if split in _MINI_SPLITS and split_file.minival:
                records = list(records)
                cut = len(records) - minival_count(split_file.minival, len(records))
                records = records[:cut] if split == "minitrain" else records[cut:]
            for record in filter(layout.include_record, records):
                if layout.join is not None and split_file.join_file is not None:
                    record = record | {"joined": joined.get(record[layout.join.left_on])}
                yield record
        except PARSE_ERRORS as mistake:
            if isinstance(mistake, DataError):
                raise
            told = format_mismatch_message(str(file), self.layout, self._spec, mistake)
            raise DataError(told) from mistake

    def _missing_split_message(self, split: str) -> str:
        location, layout = self.resolved_path(), self._spec
        if not location.exists():
            return (
                f"data.path: {location} does not exist; {self.layout} is had from {layout.homepage}"
            )
        parts = self._split_files(split)
        if not parts:
            known = ", ".join(dict.fromkeys([*layout.splits, _TRAINVAL, *_MINI_SPLITS]))
            return f"{location}: {self.layout} has no split {split!r}; it has {known}"
        needed = [name for part in parts for name in (part.name, part.join_file) if name]
        missing = next(name for name in needed if not self._find_file(name).exists())
        entries = sorted(entry.name for entry in location.iterdir()) if location.is_dir() else []
        return (
            f"{location}: split {split!r} of {self.layout} needs {missing}, from {layout.homepage}; "
            f"found here: {short_repr(', '.join(entries)) if entries else 'nothing'}; another name is "
            f"told with data.splits.{split}=FILE"
        )
