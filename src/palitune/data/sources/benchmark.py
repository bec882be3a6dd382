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

from palitune.data.sources import lookup
from palitune.data.sources.base import Source
from palitune.data.sources.benchmark_rows import WRONG, RowReader, another_version
from palitune.data.sources.checks import shown
from palitune.data.sources.layout import File, Layout, Record, minival_count
from palitune.data.sources.official_captions import CAPTIONS
from palitune.data.sources.official_documents import ABOUT_DOCUMENTS
from palitune.data.sources.official_exams import EXAMS
from palitune.data.sources.official_image_pairs import IMAGE_PAIRS
from palitune.data.sources.official_notations import NOTATIONS
from palitune.data.sources.official_photographs import ABOUT_PHOTOGRAPHS
from palitune.data.sources.official_scene_text import SCENE_TEXT
from palitune.data.sources.official_videos import ABOUT_VIDEOS
from palitune.data.sources.videos import Frames
from palitune.examples import DataError, Row

LAYOUTS: dict[str, Layout] = {
    **ABOUT_DOCUMENTS,
    **ABOUT_PHOTOGRAPHS,
    **CAPTIONS,
    **SCENE_TEXT,
    **IMAGE_PAIRS,
    **ABOUT_VIDEOS,
    **EXAMS,
    **NOTATIONS,
}
_MINI = ("minitrain", "minival")
_BOTH = "trainval"


@dataclass(kw_only=True)
class Benchmark(Source):
    """Rows out of the official files of a benchmark."""

    name: ClassVar[str] = "benchmark"
    patterns: ClassVar[tuple[str, ...]] = ()

    layout: str
    """Which benchmark, e.g. docvqa, vqav2 or textcaps."""
    images: str | None = None
    """Folder that the images lie in as the benchmark has them, or directly; null: `path`."""
    only: dict[str, list[str]] = field(default_factory=dict)
    """Values of attributes that rows must have, e.g. {question_type: [comp, presence]}."""
    rotations: str | None = None
    """Name of Open Images' csv of rotations, in the folder of the images: they are turned upright
    as it says. Null: images stay as they are."""
    frames: Frames = field(default_factory=Frames)
    """Which frames of a video are the images of its row."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layout not in LAYOUTS:
            raise ValueError(f"data.layout: {self.layout!r} is not one of {', '.join(LAYOUTS)}")
        known = self._layout.attributes
        if unknown := [name for name in self.only if name not in known]:
            raise ValueError(
                f"data.only: {self.layout} tells no {unknown[0]!r}; it tells "
                f"{', '.join(known) or 'nothing'}"
            )

    @property
    def _layout(self) -> Layout:
        return LAYOUTS[self.layout]

    def read(self, file: Path, split: str) -> Iterator[Row | DataError]:
        root = self.folder() / Path(self.images or "").expanduser()
        reader = RowReader(self.layout, self._layout, root, self.rotations, self.frames)
        for part in self._parts(split):
            there = self._found(part.name)
            for number, record in enumerate(self._records(part, split)):
                try:
                    row = reader.row(record, number, there, part)
                except DataError as mistake:
                    yield mistake
                    continue
                if all(row.attributes.get(name) in values for name, values in self.only.items()):
                    yield row

    def files(self, split: str) -> Iterable[Path]:
        for part in self._parts(split):
            for name in filter(None, (part.name, part.join)):
                yield self._found(name)

    def found(self, split: str) -> list[Path]:
        """Return the first file of a split where all are there; `files` lists them."""
        parts = self._parts(split)
        needed = [name for part in parts for name in (part.name, part.join) if name]
        there = all(self._found(name).exists() for name in needed)
        return [self._found(parts[0].name)] if parts and there else []

    def available_splits(self) -> list[str]:
        names = [*map(lookup.canonical, self.splits), *self._layout.splits, _BOTH, *_MINI]
        return [split for split in dict.fromkeys(names) if self.found(split)]

    def _parts(self, split: str) -> list[File]:
        """Return the files of a split, those of the user in place of the benchmark's."""
        splits = self._layout.splits
        for name, file in self.splits.items():
            if lookup.canonical(name) == split:
                first = next(iter(splits.get(split, splits[next(iter(splits))])))
                return [replace(first, name=file)]
        if split in _MINI and split not in splits:
            parts = next((f for f in splits.values() if any(part.minival for part in f)), ())
            parts = tuple(p for p in parts if p.minival or split == "minitrain")
        elif split == _BOTH and split not in splits:
            parts = (*splits.get("train", ()), *splits.get("validation", ()))
        else:
            parts = tuple(splits.get(split, ()))
        return [part for part in parts if self._may_hold(part)]

    def _may_hold(self, part: File) -> bool:
        """Tell whether `only` leaves any row of a file, as far as its name tells."""
        return all(part.told.get(name) in (None, *values) for name, values in self.only.items())

    def _found(self, name: str) -> Path:
        """Return the file of that name; where it is not there the path that it should have."""
        folder = self.folder()
        matches = sorted(folder.glob(name)) if "*" in name else []
        return matches[0] if matches else folder / Path(name).expanduser()

    def _records(self, part: File, split: str) -> Iterator[Record]:
        file, layout = self._found(part.name), self._layout
        joined: dict[Any, list[Record]] = defaultdict(list)
        try:
            if layout.join is not None and part.join is not None:
                for record in layout.join.read(self._found(part.join)):
                    joined[record.get(layout.join.theirs)].append(record)
            records: Iterable[Record] = layout.read(file)
            if part.where is not None:
                key, wanted = part.where
                records = (record for record in records if record[key] == wanted)
            if split in _MINI and part.minival:
                records = list(records)
                cut = len(records) - minival_count(part.minival, len(records))
                records = records[:cut] if split == "minitrain" else records[cut:]
            for record in filter(layout.keeps, records):
                if layout.join is not None and part.join is not None:
                    record = record | {"joined": joined.get(record[layout.join.ours])}
                yield record
        except WRONG as mistake:
            if isinstance(mistake, DataError):
                raise
            told = another_version(str(file), self.layout, self._layout, mistake)
            raise DataError(told) from mistake

    def _missing(self, split: str) -> str:
        location, layout = self.location(), self._layout
        if not location.exists():
            return f"data.path: {location} does not exist; {self.layout} is had from {layout.home}"
        parts = self._parts(split)
        if not parts:
            known = ", ".join(dict.fromkeys([*layout.splits, _BOTH, *_MINI]))
            return f"{location}: {self.layout} has no split {split!r}; it has {known}"
        needed = [name for part in parts for name in (part.name, part.join) if name]
        missing = next(name for name in needed if not self._found(name).exists())
        entries = sorted(entry.name for entry in location.iterdir()) if location.is_dir() else []
        return (
            f"{location}: split {split!r} of {self.layout} needs {missing}, from {layout.home}; "
            f"found here: {shown(', '.join(entries)) if entries else 'nothing'}; another name is "
            f"told with data.splits.{split}=FILE"
        )
