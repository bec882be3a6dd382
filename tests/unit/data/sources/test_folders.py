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


@pytest.mark.parametrize(
    ("link", "target", "message"),
    [
        ("b/up", "..", r"b/up is a link to a folder above it\. Remove"),
        ("here", ".", r"here is a link to a folder above it\. Remove"),
        ("itself", "itself", r"itself cannot be read \(Too many levels of symbolic links\)\.$"),
    ],
)
def test_a_link_to_a_folder_above_is_one_sentence(
    tmp_path: Path, link: str, target: str, message: str
) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b/1.png").touch()
    (tmp_path / link).symlink_to(target)
    with pytest.raises(DataError, match=message):
        list(iterate_images(tmp_path))


def test_a_link_to_another_folder_is_followed(tmp_path: Path) -> None:
    for name in ("data/1.png", "other/2.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    for name in ("a", "b"):
        (tmp_path / "data" / name).symlink_to("../other")
    found = [file.relative_to(tmp_path / "data") for file in iterate_images(tmp_path / "data")]
    assert [file.as_posix() for file in found] == ["1.png", "a/2.png", "b/2.png"]
