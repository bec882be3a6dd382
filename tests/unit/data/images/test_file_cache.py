"""An entry comes back as it was written, or not at all, whoever writes beside."""

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from palitune.data.images.file_cache import FileCache, format_bytes

CONTENT = np.random.default_rng(0).integers(0, 256, 5000, np.uint8)


@pytest.fixture
def entries(tmp_path: Path) -> FileCache:
    return FileCache(tmp_path / "kept", CONTENT.size)


@pytest.fixture
def image(tmp_path: Path) -> str:
    (tmp_path / "a.png").write_bytes(b"any bytes")
    return str(tmp_path / "a.png")


def test_what_is_written_is_read_and_a_copy_of_the_image_has_the_same_entry(
    entries: FileCache, image: str, tmp_path: Path
) -> None:
    assert entries.read(entries.path_for(image)) is None
    entries.write(entries.path_for(image), CONTENT)
    (tmp_path / "b.png").write_bytes(b"any bytes")
    (tmp_path / "c.png").write_bytes(b"other bytes")
    np.testing.assert_array_equal(entries.read(entries.path_for(str(tmp_path / "b.png"))), CONTENT)
    assert entries.read(entries.path_for(str(tmp_path / "c.png"))) is None


def test_changing_what_was_read_leaves_the_file_as_it_is(entries: FileCache, image: str) -> None:
    entry = entries.path_for(image)
    entries.write(entry, CONTENT)
    entries.read(entry)[:] = 0
    np.testing.assert_array_equal(entries.read(entry), CONTENT)


@pytest.mark.parametrize("place", [0, 2500, -1])
def test_a_broken_entry_is_none(entries: FileCache, image: str, place: int) -> None:
    entry = entries.path_for(image)
    entries.write(entry, CONTENT)
    content = bytearray(entry.read_bytes())
    content[place] ^= 1
    entry.write_bytes(content)
    assert entries.read(entry) is None
    entry.write_bytes(content[:100])
    assert entries.read(entry) is None
    entry.write_bytes(b"")
    assert entries.read(entry) is None


def write_and_read(folder: Path, entry: Path) -> int:
    entries = FileCache(folder, CONTENT.size)
    whole = 0
    for _ in range(200):
        entries.write(entry, CONTENT)
        whole += entries.read(entry) is not None
    return whole


def test_two_processes_that_write_at_once_always_read_a_whole_entry(
    entries: FileCache, image: str
) -> None:
    entry = entries.path_for(image)
    with ProcessPoolExecutor(2, get_context("fork")) as pool:
        found = list(pool.map(write_and_read, [entries.folder] * 2, [entry] * 2))
    assert found == [200, 200]
    assert os.listdir(entry.parent) == [entry.name]


def test_room_tells_what_so_many_entries_take(entries: FileCache) -> None:
    needed, free = entries.required_and_free(3)
    assert needed == 15000
    assert free > 0


@pytest.mark.parametrize(
    ("size", "said"),
    [(0, "0 B"), (1023, "1023 B"), (150528, "147 KiB"), (9 << 20, "9 MiB"), (225e9, "209.5 GiB")],
)
def test_sizes_are_told_with_their_unit(size: float, said: str) -> None:
    assert format_bytes(size) == said
