"""The example cache depends on the code that writes examples."""

import gc
import json
import random
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from palitune.data import example_cache
from palitune.data.dataset import Examples
from palitune.data.example_cache import (
    CHECKSUM_FILE,
    CODE,
    ENTRY_FILES,
    _check_encodable,
    code_files,
    ensure_cached,
    rare_garbage_collection,
)
from palitune.data.sources.jsonl import Jsonl
from palitune.errors import DataError
from palitune.tasks.detection import Detection
from palitune.tasks.ocr import Ocr


@pytest.mark.parametrize("name", CODE)
def test_every_module_contributes_its_files(name: str) -> None:
    files = code_files(name)
    assert files
    assert all(file.is_file() and file.suffix == ".py" for file in files)
    path = Path(example_cache.__file__).parents[2].joinpath(*name.split("."))
    assert set(files) == (set(path.rglob("*.py")) if path.is_dir() else {path.with_suffix(".py")})


def test_a_module_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"depends on palitune\.no_such_module"):
        code_files("palitune.no_such_module")


@pytest.mark.parametrize("edited", ["module.py", "package/__init__.py", "package/deep/file.py"])
def test_an_edited_file_changes_the_digest(
    edited: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in ("module.py", "package/__init__.py", "package/deep/file.py", "other.py"):
        (tmp_path / "cached_code" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cached_code" / file).write_text("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(example_cache, "CODE", ("cached_code.module", "cached_code.package"))

    def digest() -> str:
        return example_cache._code_digest(Jsonl(path="data"), Ocr())

    before = digest()
    (tmp_path / "cached_code/other.py").write_text("x = 2\n")
    assert digest() == before
    (tmp_path / "cached_code" / edited).write_text("x = 2\n")
    assert digest() != before


def write_rows(folder: Path, count: int) -> Jsonl:
    for index in range(count):
        Image.new("RGB", (4, 4)).save(folder / f"{index}.png")
    lines = [json.dumps({"image": f"{i}.png", "text": f"text {i}"}) for i in range(count)]
    (folder / "train.jsonl").write_text("\n".join(lines))
    return Jsonl(path=str(folder))


@pytest.mark.parametrize("name", [*ENTRY_FILES, CHECKSUM_FILE])
def test_a_damaged_entry_is_written_again(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PALITUNE_CACHE", str(tmp_path / "cache"))
    source, rng = write_rows(tmp_path, 3), random.Random(0)
    folder = ensure_cached(source, Ocr(), "train")
    expected = list(Examples(folder, "ocr"))
    intact = {file.name: file.read_bytes() for file in folder.iterdir()}
    for damage in ("flip", "truncate", "remove"):
        content = bytearray(intact[name])
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        (folder / name).write_bytes(content if damage == "flip" else intact[name][:-1])
        if damage == "remove":
            (folder / name).unlink()
        assert ensure_cached(source, Ocr(), "train") == folder
        assert {file.name: file.read_bytes() for file in folder.iterdir()} == intact
        assert list(Examples(folder, "ocr")) == expected


def test_a_file_name_that_is_not_utf_8_is_a_bad_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PALITUNE_CACHE", str(tmp_path / "cache"))
    example = Ocr().example(next(iter(write_rows(tmp_path, 1).rows("train"))))
    for name, value in (("images", ("b\udce5t.png",)), ("suffixes", ("\ud800",)), ("id", "\udfff")):
        with pytest.raises(DataError, match=r"must be UTF-8") as raised:
            _check_encodable(replace(example, **{name: value}))
        assert str(raised.value).startswith(example.location)


def test_a_class_name_with_a_line_break_is_a_bad_row(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    line = {"image": "a.png", "objects": [{"label": "a\nboat", "box": [1, 2, 3, 4]}]}
    (tmp_path / "train.jsonl").write_text(json.dumps(line))
    with pytest.raises(DataError, match="must be one line, got a line break"):
        ensure_cached(Jsonl(path=str(tmp_path)), Detection(), "train")


def test_the_thresholds_of_garbage_collection_are_restored() -> None:
    before = gc.get_threshold()
    with suppress(ValueError), rare_garbage_collection():
        assert gc.get_threshold()[0] > before[0]
        int("no number")
    assert gc.get_threshold() == before


def test_the_last_of_overlapping_threads_restores_the_thresholds() -> None:
    before = gc.get_threshold()
    first, second = rare_garbage_collection(), rare_garbage_collection()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert gc.get_threshold() != before
    second.__exit__(None, None, None)
    assert gc.get_threshold() == before
