"""Cache of examples: written to disk once for each source, task and split.

The cache is the folder `examples` of `$PALITUNE_CACHE` (default `~/.cache/palitune`). The name of
an entry is a digest of everything that its examples depend on: the settings of source and task;
path, size and time of the annotation files and of the files that the task reads; and the code that
writes examples. An entry has `examples.arrow`, a message for each bad row in `skipped.json`, and a
message for each reason why the task dropped something in `dropped.json`. `checksum.txt` has size
and checksum of these files; a damaged entry is written again.
"""

import gc
import importlib.util
import json
import logging
import os
import shutil
import sys
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, is_dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from palitune import __version__
from palitune.codec.parsing import dump_json, has_lone_surrogate
from palitune.data.images.tiles import TileCounts, cut_row
from palitune.data.skipped import SkipCounter
from palitune.data.sources.base import Source
from palitune.distributed.terminal import escape_markup, escape_unprintable
from palitune.errors import DataError, LeftOut
from palitune.paths import cache_root, delete_leftovers, write_atomically
from palitune.records import Example, Row, row_to_json, value_to_json
from palitune.tasks import Task
from palitune.tasks.base import MissingColumnError

T = TypeVar("T")

_log = logging.getLogger(__name__)

ENTRY_FILES = ("examples.arrow", "skipped.json", "dropped.json")
CHECKSUM_FILE = "checksum.txt"
_CHECKSUM_BLOCK_BYTES = 1 << 22

_RARE_THRESHOLDS = 200_000, 50, 100
"""New objects between searches of the youngest generation, and searches between older ones."""

RECORD_BATCH_SIZE = 1000
"""Examples per Arrow record batch."""

SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "images": pa.list_(pa.string()),
        "width": pa.int32(),
        "height": pa.int32(),
        "prefix": pa.string(),
        "suffixes": pa.list_(pa.string()),
        "reference": pa.string(),  # JSON by `value_to_json`
        "location": pa.string(),
        "attributes": pa.string(),  # JSON
        "row": pa.string(),  # JSON by `row_to_json`: the row that the task read
        "choices": pa.list_(pa.string()),
        "marked_box": pa.list_(pa.float64()),
        "tile": pa.list_(pa.int32()),
        "no_loss_spans": pa.list_(pa.list_(pa.int32())),
    }
)

CODE = (
    "palitune.records",
    "palitune.codec",
    "palitune.tasks",
    "palitune.data.sources",
    "palitune.data.benchmarks",
    "palitune.data.images",
    "palitune.data.skipped",
    "palitune.data.example_cache",
)
"""Modules and packages whose code determines the examples."""


class DuplicateIdError(DataError):
    """A row whose id an earlier row of the split has."""


def cache_folder() -> Path:
    return cache_root() / "examples"


def ensure_cached(
    source: Source, task: Task, split: str, *, allow_missing_references: bool = False
) -> Path:
    """Return the folder with the examples of a split; write it if it does not exist.

    Args:
        source: The data source.
        task: The task that writes the examples.
        split: Name of the split.
        allow_missing_references: Accept a split in which no row has a reference.

    Raises:
        DataError: The data is invalid, or the cache cannot be written.
    """
    file = source.annotation_file(split)
    folder = cache_folder() / _fingerprint(source, task, split, file)
    if folder.exists() and not _is_intact(folder):
        _log.warning("%s is damaged; the examples of %s are written again", folder, file)
        shutil.rmtree(folder, ignore_errors=True)
    if not folder.exists():
        delete_leftovers(folder.parent)
        try:
            with write_atomically(folder) as temporary:
                temporary.mkdir()
                with rare_garbage_collection():
                    _write_entry(source, task, split, temporary, allow_missing_references)
                (temporary / CHECKSUM_FILE).write_text(_checksum(temporary), encoding="ascii")
        except OSError as error:
            raise DataError(
                f"{folder.parent}: the examples of {file} cannot be written here ({error}); set "
                "the environment variable PALITUNE_CACHE to a folder with free space"
            ) from error
    return folder


def _is_intact(folder: Path) -> bool:
    """Return whether the files of an entry are those that were written."""
    try:
        expected = (folder / CHECKSUM_FILE).read_text(encoding="ascii")
        return expected == _checksum(folder)
    except (OSError, ValueError):
        return False


def _checksum(folder: Path) -> str:
    """Return size and CRC-32 of every file of an entry; a gigabyte takes about a second."""
    lines = []
    for name in ENTRY_FILES:
        size, checksum = 0, 0
        with (folder / name).open("rb") as file:
            while block := file.read(_CHECKSUM_BLOCK_BYTES):
                size, checksum = size + len(block), zlib.crc32(block, checksum)
        lines.append(f"{name} {size} {checksum:08x}\n")
    return "".join(lines)


def _fingerprint(source: Source, task: Task, split: str, file: Path) -> str:
    dependencies = {
        "version": __version__,
        "code": _code_digest(source, task),
        "source": [type(source).__qualname__, asdict(source)],
        "task": [type(task).__qualname__, asdict(task)],
        "split": split,
        "file": str(file.resolve()),
        "files": _stat_digest([*source.files(split), *task.input_files()]),
    }
    return sha256(json.dumps(dependencies, sort_keys=True, default=str).encode()).hexdigest()[:32]


def _stat_digest(files: Iterable[Path]) -> str:
    """Digest the paths, sizes and times of files."""
    digest = sha256()
    for file in files:
        stat = os.stat(file)
        digest.update(f"{file}|{stat.st_size}|{stat.st_mtime_ns}\n".encode(errors="replace"))
    return digest.hexdigest()


def _code_digest(source: Source, task: Task) -> str:
    """Digest the code that writes examples, so that an edited task gets new ones."""
    files = {file for name in CODE for file in code_files(name)}
    for ancestor in (*type(source).__mro__, *type(task).__mro__):
        if is_dataclass(ancestor) and (
            file := getattr(sys.modules[ancestor.__module__], "__file__", None)
        ):
            files.add(Path(file))
    return sha256(b"".join(file.read_bytes() for file in sorted(files))).hexdigest()


def code_files(name: str) -> list[Path]:
    """Return the source files of a module, or of a package with its subpackages.

    Raises ModuleNotFoundError if it does not exist.
    """
    spec = importlib.util.find_spec(name)
    if spec is None:
        raise ModuleNotFoundError(f"the example cache depends on {name}, which does not exist")
    if spec.submodule_search_locations is None:
        return [Path(str(spec.origin))]
    return [
        file for folder in spec.submodule_search_locations for file in Path(folder).rglob("*.py")
    ]


def _write_entry(
    source: Source, task: Task, split: str, folder: Path, allow_missing_references: bool
) -> None:
    skipped: list[str] = []
    skip_counter = SkipCounter()

    def skip_or_raise(error: DataError) -> None:
        skipped.append(str(error))
        if len(skipped) > source.max_bad_rows:
            raise DataError(
                f"{skipped[0]} (bad rows so far: {len(skipped)}; "
                f"data.max_bad_rows={source.max_bad_rows})"
            ) from error

    pairs = iterate_examples(
        source, task, split, skip_or_raise, skip_counter,
        allow_missing_references=allow_missing_references,
    )  # fmt: skip
    pairs = with_progress(islice(pairs, source.max_samples), f"reading {split}")
    if not _write_examples(pairs, folder / "examples.arrow"):
        raise DataError(_no_examples_message(source, split, skipped))
    (folder / "skipped.json").write_text(json.dumps(skipped), encoding="utf-8")
    (folder / "dropped.json").write_text(json.dumps(skip_counter.messages()), encoding="utf-8")


def _no_examples_message(source: Source, split: str, skipped: list[str]) -> str:
    reason = "check that it is the right file"
    if skipped:
        reason = f"every row is bad, the first: {skipped[0]}"
    elif source.validation_fraction:
        reason = (
            f"data.validation_fraction={source.validation_fraction} of so few images is none; "
            "set it higher"
        )
    return f"{source.annotation_file(split)}: split {split!r} has no examples; {reason}"


def iterate_examples(
    source: Source,
    task: Task,
    split: str,
    on_bad_row: Callable[[DataError], None],
    skip_counter: SkipCounter,
    *,
    allow_missing_references: bool = False,
) -> Iterator[tuple[Row, Example]]:
    """Yield the valid rows of a split with their examples.

    Args:
        source: The data source.
        task: The task that writes the examples.
        split: Name of the split.
        on_bad_row: Called with the error of each bad row; it may raise.
        skip_counter: Counts what the task drops.
        allow_missing_references: Accept a split in which no row has a reference.
    """
    location_by_id: dict[str, str] = {}
    has_references: bool | None = None  # the same for all rows of a split
    for row in _cut_rows(source, split, skip_counter):
        try:
            if isinstance(row, LeftOut):
                skip_counter.add({row.reason: 1}, row.location)
                continue
            if isinstance(row, DataError):
                raise row
            _check_id(row, location_by_id)
            _check_labels(row)
            example = _make_example(row, task, allow_missing_references and not has_references)
            _check_encodable(example)
            if has_references is None:
                has_references = bool(example.suffixes)
            if example.suffixes and not has_references:
                raise DataError(
                    f"{row.location}: the row has a reference, but the rows before it have none; "
                    "put rows without references into another split"
                )
            if has_references:
                if split == "train" and not task.include_in_training(row):
                    reason = "images without objects (task.negative_ratio)"
                    skip_counter.add({reason: 1}, row.location)
                    continue
                skip_counter.add(task.count_dropped(row), row.location)
        except DataError as error:
            on_bad_row(error)
            continue
        yield row, example


def _cut_rows(source: Source, split: str, skip_counter: SkipCounter) -> Iterator[Row | DataError]:
    """Yield the rows of a split, cut into tiles if `data.tiles` is set."""
    if source.tiles is None:
        yield from source.rows(split)
        return
    skip_counter.tile_counts = TileCounts(source.tiles)
    for row in source.rows(split):
        if isinstance(row, DataError):
            yield row
            continue
        try:
            yield from cut_row(row, source.tiles, skip_counter.tile_counts)
        except DataError as error:
            yield error


def _check_encodable(example: Example) -> None:
    """Raise DataError for half of a surrogate pair, e.g. of a file name that is not UTF-8."""
    texts = (example.id, *example.images, example.prefix, *example.suffixes, *example.choices)
    if has_lone_surrogate("\0".join((*texts, example.location))):
        location = escape_unprintable(example.location)
        raise DataError(
            f"{location}: texts and file names must be UTF-8, got half of a surrogate pair. "
            "Rename the file or correct the text."
        )


def _check_id(row: Row, location_by_id: dict[str, str]) -> None:
    if (first := location_by_id.setdefault(row.id, row.location)) is not row.location:
        raise DuplicateIdError(
            f"{row.location}: id {row.id!r} is already used at {first}; ids must be unique, change "
            "it or leave the column out"
        )


def _check_labels(row: Row) -> None:
    """Raise DataError for a line break in a class name: it would end the prompt."""
    if row.classes is None and row.instances is None:
        return
    names = (*(row.classes or ()), *(instance.label for instance in row.instances or ()))
    if "\n" in "".join(names):
        [name, *_] = (name for name in names if "\n" in name)
        raise DataError(
            f"{row.location}: class name {name!r} must be one line, got a line break. Rename it."
        )


def _make_example(row: Row, task: Task, allow_missing_references: bool) -> Example:
    try:
        return task.example(row)
    except MissingColumnError:
        if not allow_missing_references:
            raise
        return task.prompt_only_example(row)


@contextmanager
def rare_garbage_collection() -> Iterator[None]:
    """Search rarely for reference cycles while rows are read.

    Rows have none, but every search visits all objects of the process, such as those of a parsed
    annotation file: with Python's thresholds a third of the time. The thresholds are those of the
    process: the last of several threads restores them.
    """
    with _rare_collection.lock:
        if not _rare_collection.users:
            _rare_collection.usual = gc.get_threshold()
            gc.set_threshold(*_RARE_THRESHOLDS)
        _rare_collection.users += 1
    try:
        yield
    finally:
        with _rare_collection.lock:
            _rare_collection.users -= 1
            if not _rare_collection.users:
                gc.set_threshold(*_rare_collection.usual)


@dataclass
class _RareCollection:
    """Threads inside `rare_garbage_collection`, and the thresholds to restore."""

    users: int = 0
    usual: tuple[int, int, int] = (0, 0, 0)
    lock: threading.Lock = field(default_factory=threading.Lock)


_rare_collection = _RareCollection()


def with_progress(items: Iterable[T], description: str) -> Iterator[T]:
    """Yield items and show their number on a terminal, or in a line from time to time."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn

    from palitune.distributed.progress import LineTimer

    console = Console(stderr=True)
    columns = SpinnerColumn(), TextColumn("{task.description}: {task.completed:,}")
    if not console.is_terminal:
        timer = LineTimer()
        for count, item in enumerate(items, 1):
            yield item
            if timer.is_due():
                _log.info("%s: %s", description, f"{count:,}")
        return
    with Progress(*columns, console=console, transient=True) as progress:
        task_id = progress.add_task(escape_markup(description), total=None)
        for item in items:
            yield item
            progress.advance(task_id)


def _write_examples(pairs: Iterator[tuple[Row, Example]], file: Path) -> int:
    """Write an Arrow stream in batches of equal size and return the number of examples."""
    count = 0
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, SCHEMA) as writer:
        while batch := list(islice(pairs, RECORD_BATCH_SIZE)):
            columns = zip(*(_to_columns(*pair) for pair in batch), strict=True)
            arrays = [pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)]
            writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=SCHEMA))
            count += len(batch)
    return count


def _to_columns(row: Row, example: Example) -> tuple[Any, ...]:
    """Return the values of a line in the order of `SCHEMA`."""
    return (
        example.id,
        example.images,
        *example.size,
        example.prefix,
        example.suffixes,
        dump_json(value_to_json(example.reference)),
        example.location,
        dump_json(example.attributes),
        dump_json(row_to_json(row)),
        example.choices,
        example.marked_box,
        example.tile,
        example.no_loss_spans,
    )
