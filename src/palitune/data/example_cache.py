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
from palitune.data.skipped import SkipCounter
from palitune.data.sources.base import Source
from palitune.errors import DataError
from palitune.paths import cache_root
from palitune.records import Example, Row, row_to_json, value_to_json
from palitune.tasks import Task
from palitune.tasks.base import MissingColumnError

RECORD_BATCH_SIZE = 1000
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
        "row": pa.string(),  # JSON of `examples.row_to_json`: what the example was written of
        "choices": pa.list_(pa.string()),
        "marked": pa.list_(pa.float64()),
        "silent": pa.list_(pa.list_(pa.int32())),
    }
)


def cache_folder() -> Path:
    """Return the folder of all cached examples."""
    return cache_root() / "examples"


def ensure_cached(
    source: Source, task: Task, split: str, *, allow_missing_references: bool = False
) -> Path:
    """Return the folder that holds the examples; build it where there is none yet.

    `unanswered` lets a split through that has no references, as long as none of its rows has one.
    """
    file = source.annotation_file(split)
    folder = cache_folder() / _fingerprint(source, task, split, file)
    if not folder.exists():
        try:
            _build_cache(source, task, split, folder, allow_missing_references)
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
        "files": _files_digest([*source.files(split), *task.input_files()]),
    }
    return sha256(json.dumps(described, sort_keys=True, default=str).encode()).hexdigest()[:32]


def _files_digest(files: Iterable[Path]) -> str:
    """Digest the paths, sizes and times of all files that the examples follow from."""
    digest = sha256()
    for file in files:
        stat = os.stat(file)
        digest.update(f"{file}|{stat.st_size}|{stat.st_mtime_ns}\n".encode(errors="replace"))
    return digest.hexdigest()


def _code_digest(source: Source, task: Task) -> str:
    """Digest the code that writes examples, so that an edited task never meets its old ones."""
    package = Path(__file__).parents[1]
    patterns = (
        "records.py",
        "codec/*.py",
        "tasks/*.py",
        "data/sources/**/*.py",
        "data/benchmarks/*.py",
        "data/images/*.py",
        "data/example_cache.py",
    )
    files = {file for pattern in patterns for file in package.glob(pattern)}
    for ancestor in (*type(source).__mro__, *type(task).__mro__):
        if is_dataclass(ancestor) and (
            file := getattr(sys.modules[ancestor.__module__], "__file__", None)
        ):
            files.add(Path(file))
    return sha256(b"".join(file.read_bytes() for file in sorted(files))).hexdigest()


def _build_cache(
    source: Source, task: Task, split: str, folder: Path, allow_missing_references: bool
) -> None:
    """Write the examples aside, then rename: other processes see all of them or none."""
    aside = folder.parent / f".{folder.name}-{uuid.uuid4().hex}"
    aside.mkdir(parents=True)
    try:
        skipped: list[str] = []
        left_out = SkipCounter()
        read = _iterate_examples(source, task, split, skipped, left_out, allow_missing_references)
        examples = islice(read, source.max_samples)
        if not _write_examples(examples, aside / "examples.arrow", f"reading {split}"):
            raise DataError(_no_examples_message(source, split, skipped))
        (aside / "skipped.json").write_text(json.dumps(skipped), encoding="utf-8")
        (aside / "left_out.json").write_text(json.dumps(left_out.messages()), encoding="utf-8")
        try:
            aside.rename(folder)
        except OSError:
            if not folder.exists():  # else another process was first, with the same examples
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _no_examples_message(source: Source, split: str, skipped: list[str]) -> str:
    why = "check that the file is the right one"
    if skipped:
        why = f"every row is bad, the first: {skipped[0]}"
    elif source.validation_fraction:
        why = f"data.validation_fraction={source.validation_fraction} of so few images leaves none"
    return f"{source.annotation_file(split)}: split {split!r} has no examples; {why}"


def _iterate_examples(
    source: Source,
    task: Task,
    split: str,
    skipped: list[str],
    skip_counter: SkipCounter,
    allow_missing_references: bool,
) -> Iterator[tuple[Example, Row]]:
    """Yield every good row with its example; put the faults of bad ones into `skipped`."""
    places: dict[str, str] = {}
    answered: bool | None = None  # as the first example is, so must all be
    for row in source.rows(split):
        try:
            example = _make_example(row, task, places, allow_missing_references and not answered)
            assert isinstance(row, Row)  # else it was raised
            answered = bool(example.suffixes) if answered is None else answered
            if example.suffixes and not answered:
                raise DataError(
                    f"{row.location}: the row has a reference and those before it have none; put "
                    "rows without references into a split of their own"
                )
            if not answered:
                yield example, row
                continue
            if split == "train" and not task.include_in_training(row):
                skip_counter.add({"images without objects (task.negative_ratio)": 1}, row.location)
                continue
            skip_counter.add(task.count_dropped(row), row.location)
            yield example, row
        except DataError as mistake:
            skipped.append(str(mistake))
            if len(skipped) > source.max_bad_rows:
                raise DataError(
                    f"{skipped[0]} (bad rows so far: {len(skipped)}; "
                    f"data.max_bad_rows={source.max_bad_rows})"
                ) from mistake


def _make_example(
    row: Row | DataError, task: Task, location_by_id: dict[str, str], allow_missing_references: bool
) -> Example:
    if isinstance(row, DataError):
        raise row
    if (first := location_by_id.setdefault(row.id, row.location)) is not row.location:
        raise DataError(
            f"{row.location}: id {row.id!r} is used already at {first}; give every row its own, or "
            "leave the column out"
        )
    try:
        return task.example(row)
    except MissingColumnError:
        if not allow_missing_references:
            raise
        return task.prompt_only_example(row)


def _write_examples(examples: Iterator[tuple[Example, Row]], file: Path, description: str) -> int:
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
        shown = bar.add_task(description, total=None)
        while batch := list(islice(examples, RECORD_BATCH_SIZE)):
            writer.write_batch(_record_batch(batch))
            count += len(batch)
            bar.update(shown, completed=count)
    return count


def _record_batch(pairs: list[tuple[Example, Row]]) -> Any:
    examples = [example for example, _ in pairs]
    columns = [
        [e.id for e in examples],
        [e.images for e in examples],
        [e.size[0] for e in examples],
        [e.size[1] for e in examples],
        [e.prefix for e in examples],
        [e.suffixes for e in examples],
        [json.dumps(value_to_json(e.reference)) for e in examples],
        [e.location for e in examples],
        [json.dumps(e.attributes) for e in examples],
        [json.dumps(row_to_json(row)) for _, row in pairs],
        [e.choices for e in examples],
        [e.marked_box for e in examples],
        [e.no_loss_spans for e in examples],
    ]
    arrays = [pa.array(c, field.type) for c, field in zip(columns, SCHEMA, strict=True)]
    return pa.record_batch(arrays, schema=SCHEMA)
