"""Helpers for messages and paths."""

from pathlib import Path

import pytest
from PIL import Image

from palitune.data.sources.validation import (
    cached_header_reader,
    collect,
    image_path,
    image_size,
    short_repr,
)
from palitune.errors import DataError


def test_a_long_value_is_cut_in_a_message() -> None:
    assert short_repr("x" * 100) == "'" + "x" * 56 + "..."
    assert short_repr([1]) == "[1]"


def test_an_image_of_another_case_is_named(tmp_path: Path) -> None:
    Image.new("RGB", (4, 3)).save(tmp_path / "Boat.JPG", "JPEG")
    path = image_path(str(tmp_path), "boat.jpg", "a.json:1")
    with pytest.raises(DataError, match=r"boat\.jpg does not exist\. There is Boat\.JPG, which"):
        image_size(cached_header_reader(), path, "a.json:1")


def test_a_path_of_windows_is_read_if_it_is_relative(tmp_path: Path) -> None:
    assert image_path(str(tmp_path), "x\\a.png", "here") == str(tmp_path / "x" / "a.png")
    (tmp_path / "x\\a.png").touch()
    assert image_path(str(tmp_path), "x\\a.png", "here") == str(tmp_path / "x\\a.png")
    for name in ("C:\\x\\a.png", "d:/a.png"):
        with pytest.raises(DataError, match="got the Windows path"):
            image_path(str(tmp_path), name, "here")


def test_the_faults_of_all_items_are_raised_together_up_to_a_limit() -> None:
    def check(number: int) -> int:
        if number % 2:
            raise DataError(f"a.json:{number}: odd.")
        return number

    assert collect(check, [2, 4]) == (2, 4)
    with pytest.raises(DataError) as caught:
        collect(check, range(15))
    assert str(caught.value) == (
        "a.json:1: odd. Also a.json:3: odd. Also a.json:5: odd. Also a.json:7: odd. "
        "Also a.json:9: odd. Also 2 more in this row."
    )
