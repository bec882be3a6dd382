"""An entry is read as it was written, or not at all, also with several writers."""

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from palitune.data.images.file_cache import FileCache, format_bytes
from palitune.errors import DataError

CONTENT = np.random.default_rng(0).integers(0, 256, 5000, np.uint8)


@pytest.fixture
def cache(tmp_path: Path) -> FileCache:
    return FileCache(tmp_path / "kept", CONTENT.size)


@pytest.fixture
def image(tmp_path: Path) -> str:
    (tmp_path / "a.png").write_bytes(b"any bytes")
    return str(tmp_path / "a.png")


def test_an_entry_is_read_as_written_and_a_copy_of_the_image_has_the_same_entry(
    cache: FileCache, image: str, tmp_path: Path
) -> None:
    assert cache.read(cache.path_for(image)) is None
    cache.write(cache.path_for(image), CONTENT)
    (tmp_path / "b.png").write_bytes(b"any bytes")
    (tmp_path / "c.png").write_bytes(b"other bytes")
    np.testing.assert_array_equal(cache.read(cache.path_for(str(tmp_path / "b.png"))), CONTENT)
    assert cache.read(cache.path_for(str(tmp_path / "c.png"))) is None


def test_a_change_of_the_read_content_does_not_change_the_file(
    cache: FileCache, image: str
) -> None:
    entry = cache.path_for(image)
    cache.write(entry, CONTENT)
    cache.read(entry)[:] = 0
    np.testing.assert_array_equal(cache.read(entry), CONTENT)


@pytest.mark.parametrize("position", [0, 2500, -1])
def test_a_damaged_entry_is_none(cache: FileCache, image: str, position: int) -> None:
    entry = cache.path_for(image)
    cache.write(entry, CONTENT)
    content = bytearray(entry.read_bytes())
    content[position] ^= 1
    entry.write_bytes(content)
    assert cache.read(entry) is None
    entry.write_bytes(content[:100])
    assert cache.read(entry) is None
    entry.write_bytes(b"")
    assert cache.read(entry) is None


def write_and_read(folder: Path, entry: Path) -> int:
    cache = FileCache(folder, CONTENT.size)
    num_complete = 0
    for _ in range(200):
        cache.write(entry, CONTENT)
        num_complete += cache.read(entry) is not None
    return num_complete


def test_two_concurrent_writers_always_read_a_complete_entry(cache: FileCache, image: str) -> None:
    entry = cache.path_for(image)
    with ProcessPoolExecutor(2, get_context("fork")) as pool:
        results = list(pool.map(write_and_read, [cache.folder] * 2, [entry] * 2))
    assert results == [200, 200]
    assert os.listdir(entry.parent) == [entry.name]


def test_the_required_space_is_that_of_all_entries(cache: FileCache) -> None:
    required, free = cache.required_and_free(3)
    assert required == 15000
    assert free > 0


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (150528, "147 KiB"), (9 << 20, "9 MiB"), (225e9, "209.5 GiB")],
)
def test_sizes_are_formatted_with_their_unit(size: float, text: str) -> None:
    assert format_bytes(size) == text


@pytest.mark.parametrize("place", ["/proc/cache", "/dev/null/cache", "a" * 300])
def test_a_folder_that_cannot_be_written_is_one_sentence(place: str) -> None:
    with pytest.raises(DataError, match=r"cannot be written \(.*\)\. Set another folder\.$"):
        FileCache(Path(place), 10).required_and_free(1)
