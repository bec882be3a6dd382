"""Folders of images: sorted by name, without hidden files, with unambiguous names."""

from pathlib import Path

import pytest

from palitune.data.sources.folders import images_by_stem, iterate_images
from palitune.errors import DataError


def test_images_come_in_the_order_of_their_names_without_hidden_files(tmp_path: Path) -> None:
    for name in (
        "b/2.JPG",
        "b/1.png",
        "a.jpeg",
        ".hidden.png",
        "._a.jpeg",
        "notes.txt",
        ".x/1.png",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [file.relative_to(tmp_path).as_posix() for file in iterate_images(tmp_path)]
    assert found == ["a.jpeg", "b/1.png", "b/2.JPG"]
    assert list(images_by_stem(tmp_path)) == ["a", "b/1", "b/2"]


def test_two_images_that_differ_by_the_ending_only_are_refused(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png"):
        (tmp_path / name).touch()
    with pytest.raises(DataError) as caught:
        images_by_stem(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}/a.png: image names must differ in more than the extension, got a.jpg too. "
        "Rename one of them."
    )
