"""Cache and resource folders, and atomic writes."""

import os
from pathlib import Path

import pytest

from palitune.paths import cache_root, delete_leftovers, resource_dir, write_atomically


def test_the_cache_root_is_the_environment_variable_or_in_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PALITUNE_CACHE", str(tmp_path))
    assert cache_root() == tmp_path
    monkeypatch.setenv("PALITUNE_CACHE", "~/cache")
    assert cache_root() == Path.home() / "cache"
    monkeypatch.delenv("PALITUNE_CACHE")
    assert cache_root() == Path.home() / ".cache/palitune"


def test_the_resource_folders_of_a_checkout_are_next_to_src() -> None:
    root = Path(__file__).resolve().parents[2]
    assert resource_dir("conf").resolve() == root / "conf"
    assert resource_dir("recipes").resolve() == root / "recipes"


def test_a_file_is_replaced_only_when_it_is_complete(tmp_path: Path) -> None:
    file = tmp_path / "new/a.txt"
    for text in ("first", "second"):
        with write_atomically(file) as temporary:
            temporary.write_text(text)
            assert not file.exists() or file.read_text() == "first"
        assert file.read_text() == text
    assert list(file.parent.iterdir()) == [file]


def test_a_failed_write_changes_nothing_and_leaves_nothing_behind(tmp_path: Path) -> None:
    file, folder = tmp_path / "a.txt", tmp_path / "folder"
    file.write_text("old")
    with pytest.raises(RuntimeError), write_atomically(file) as temporary:  # noqa: PT012
        temporary.write_text("new")
        raise RuntimeError
    with pytest.raises(RuntimeError), write_atomically(folder) as temporary:  # noqa: PT012
        temporary.mkdir()
        (temporary / "a.txt").touch()
        raise RuntimeError
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_folder_that_another_process_created_first_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    with write_atomically(folder) as temporary:
        temporary.mkdir()
        (temporary / "a.txt").write_text("slower")
        folder.mkdir()
        (folder / "a.txt").write_text("faster")
    assert (folder / "a.txt").read_text() == "faster"
    assert list(tmp_path.iterdir()) == [folder]


def test_a_file_cannot_take_the_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError, match="directory"), write_atomically(tmp_path / "a") as temporary:
        temporary.write_text("x")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_old_temporary_folders_are_deleted_and_those_in_use_are_kept(tmp_path: Path) -> None:
    for name in ("old", "new"):
        with write_atomically(tmp_path / name) as temporary:
            temporary.mkdir()
            (tmp_path / f".{name}-{'0' * 31}{len(name)}").mkdir()
    [old] = tmp_path.glob(".old-*")
    os.utime(old, (0, 0))
    delete_leftovers(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == [f".new-{'0' * 31}3", "new", "old"]
    delete_leftovers(tmp_path / "missing")
