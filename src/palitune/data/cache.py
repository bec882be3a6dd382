"""The examples of a source, task and split: written to disk once, found there from then on.

The cache lies in `$PALITUNE_CACHE`, else in `~/.cache/palitune`. A folder of it is named by
everything its examples follow from: the settings of source and task, the path, size and time of
every annotation file and of what else the task reads, and the code that wrote them. It holds
`examples.arrow`, and in `skipped.json` a sentence for every bad row, in `left_out.json` one for
every reason for which a task has left something out.
"""

import json
import os
import shutil
import sys
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import asdict, is_dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from palitune import __version__
from palitune.data.left_out import LeftOut
from palitune.data.places import cache_root
from palitune.data.sources.base import Source
from palitune.examples import DataError, Example, Row, value_to_json
from palitune.tasks import Task

BATCH = 1000
"""Examples per Arrow record batch: the unit in which they are written."""

SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "images": pa.list_(pa.string()),
        "width": pa.int32(),
        "height": pa.int32(),
        "prefix": pa.string(),
        "suffixes": pa.list_(pa.string()),
        "reference": pa.string(),  # JSON of `examples.value_to_json`
        "place": pa.string(),
        "attributes": pa.string(),  # JSON
        "choices": pa.list_(pa.string()),
        "marked": pa.list_(pa.float64()),
    }
)


def cache_folder() -> Path:
    """Return the folder of all cached examples."""
    return cache_root() / "examples"


def cached(source: Source, task: Task, split: str) -> Path:
    """Return the folder that holds the examples; build it where there is none yet."""
    file = source.annotation_file(split)
    folder = cache_folder() / _fingerprint(source, task, split, file)
    if not folder.exists():
        try:
            _build(source, task, split, folder)
        except OSError as mistake:
            raise DataError(
                f"{folder.parent}: the examples of {file} cannot be written here ({mistake}); "
                "name a folder with free space in the environment variable PALITUNE_CACHE"
            ) from mistake
    return folder


def _fingerprint(source: Source, task: Task, split: str, file: Path) -> str:
    described = {
        "version": __version__,
        "code": _code_digest(source, task),
        "source": [type(source).__qualname__, asdict(source)],
        "task": [type(task).__qualname__, asdict(task)],
        "split": split,
        "file": str(file.resolve()),
        "files": _digest_of([*source.files(split), *task.files()]),
    }
    return sha256(json.dumps(described, sort_keys=True, default=str).encode()).hexdigest()[:32]


def _digest_of(files: Iterable[Path]) -> str:
    """Digest the paths, sizes and times of all files that the examples follow from."""
    digest = sha256()
    for file in files:
        stat = os.stat(file)
        digest.update(f"{file}|{stat.st_size}|{stat.st_mtime_ns}\n".encode(errors="replace"))
    return digest.hexdigest()


def _code_digest(source: Source, task: Task) -> str:
    """Digest the code that writes examples, so that an edited task never meets its old ones."""
    package = Path(__file__).parents[1]
    patterns = ("examples.py", "codec/*.py", "tasks/*.py", "data/sources/*.py", "data/cache.py")
    files = {file for pattern in patterns for file in package.glob(pattern)}
    for ancestor in (*type(source).__mro__, *type(task).__mro__):
        if is_dataclass(ancestor) and (
            file := getattr(sys.modules[ancestor.__module__], "__file__", None)
        ):
            files.add(Path(file))
    return sha256(b"".join(file.read_bytes() for file in sorted(files))).hexdigest()


def _build(source: Source, task: Task, split: str, folder: Path) -> None:
    """Write the examples aside, then rename: other processes see all of them or none."""
    aside = folder.parent / f".{folder.name}-{uuid.uuid4().hex}"
    aside.mkdir(parents=True)
    try:
        skipped: list[str] = []
        left_out = LeftOut()
        examples = islice(_examples(source, task, split, skipped, left_out), source.limit)
        if not _write(examples, aside / "examples.arrow", f"reading {split}"):
            raise DataError(_nothing(source, split, skipped))
        (aside / "skipped.json").write_text(json.dumps(skipped), encoding="utf-8")
        (aside / "left_out.json").write_text(json.dumps(left_out.sentences()), encoding="utf-8")
        try:
            aside.rename(folder)
        except OSError:
            if not folder.exists():  # else another process was first, with the same examples
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _nothing(source: Source, split: str, skipped: list[str]) -> str:
    why = "check that the file is the right one"
    if skipped:
        why = f"every row is bad, the first: {skipped[0]}"
    elif source.validation_fraction:
        why = f"data.validation_fraction={source.validation_fraction} of so few images leaves none"
    return f"{source.annotation_file(split)}: split {split!r} has no examples; {why}"


def _examples(
    source: Source, task: Task, split: str, skipped: list[str], left_out: LeftOut
) -> Iterator[Example]:
    """Yield the example of every good row; put the faults of bad ones into `skipped`."""
    places: dict[str, str] = {}
    for row in source.rows(split):
        try:
            example = _example(row, task, places)
            assert isinstance(row, Row)  # else it was raised
            if split == "train" and not task.keeps(row):
                left_out.add({"images without objects (task.negatives)": 1}, row.place)
                continue
            left_out.add(task.left_out(row), row.place)
            yield example
        except DataError as mistake:
            skipped.append(str(mistake))
            if len(skipped) > source.max_bad_rows:
                raise DataError(
                    f"{skipped[0]} (bad rows so far: {len(skipped)}; "
                    f"data.max_bad_rows={source.max_bad_rows})"
                ) from mistake


def _example(row: Row | DataError, task: Task, places: dict[str, str]) -> Example:
    if isinstance(row, DataError):
        raise row
    if (first := places.setdefault(row.id, row.place)) is not row.place:
        raise DataError(
            f"{row.place}: id {row.id!r} is used already at {first}; give every row its own, or "
            "leave the column out"
        )
    return task.example(row)


def _write(examples: Iterator[Example], file: Path, doing: str) -> int:
    """Write an Arrow stream in batches of constant size; return how many examples there are."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn

    count = 0
    console = Console(stderr=True)
    columns = SpinnerColumn(), TextColumn("{task.description}: {task.completed:,} examples")
    with (
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar,
        pa.OSFile(str(file), "wb") as sink,
        pa.ipc.new_stream(sink, SCHEMA) as writer,
    ):
        shown = bar.add_task(doing, total=None)
        while batch := list(islice(examples, BATCH)):
            writer.write_batch(_record_batch(batch))
            count += len(batch)
            bar.update(shown, completed=count)
    return count


def _record_batch(examples: list[Example]) -> Any:
    columns = [
        [e.id for e in examples],
        [e.images for e in examples],
        [e.size[0] for e in examples],
        [e.size[1] for e in examples],
        [e.prefix for e in examples],
        [e.suffixes for e in examples],
        [json.dumps(value_to_json(e.reference)) for e in examples],
        [e.place for e in examples],
        [json.dumps(e.attributes) for e in examples],
        [e.choices for e in examples],
        [e.marked for e in examples],
    ]
    arrays = [pa.array(c, field.type) for c, field in zip(columns, SCHEMA, strict=True)]
    return pa.record_batch(arrays, schema=SCHEMA)
