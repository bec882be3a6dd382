"""Files with identical bytes are found under any name."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palitune.data.inspection.duplicate_images import find_duplicates, group_identical_files


@given(st.lists(st.binary(max_size=3), max_size=12))
def test_files_have_the_same_number_if_and_only_if_they_are_equal(contents: list[bytes]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, str(number)) for number in range(len(contents))]
        for file, content in zip(files, contents, strict=True):
            file.write_bytes(content)
        numbers = group_identical_files(map(str, files))
        for one, a in zip(files, contents, strict=True):
            for other, b in zip(files, contents, strict=True):
                assert (numbers[str(one)] == numbers[str(other)]) == (a == b)


def test_files_that_differ_at_the_end_are_distinguished(tmp_path: Path) -> None:
    start = bytes(3_000_000)
    for name, end in {"a": b"1", "b": b"2", "c": b"1"}.items():
        (tmp_path / name).write_bytes(start + end)
    numbers = {
        Path(p).name: n for p, n in group_identical_files(map(str, tmp_path.iterdir())).items()
    }
    assert numbers["a"] == numbers["c"] != numbers["b"]


def test_duplicates_within_and_across_splits_are_found(tmp_path: Path) -> None:
    for name, content in {"a": "x", "b": "x", "c": "y", "d": "z"}.items():
        (tmp_path / name).write_text(content)
    a, b, c, d = (str(tmp_path / name) for name in "abcd")
    duplicates = find_duplicates({"train": [a, b, c, a], "test": [b, d], "validation": [d]})
    assert duplicates.within_splits == {"train": [[a, b]]}
    assert duplicates.across_splits == {
        ("train", "test"): [(a, b)],
        ("test", "validation"): [(d, d)],
    }
    assert duplicates.summary()["across"] == {
        "train and test": [(a, b)],
        "test and validation": [(d, d)],
    }


def test_files_of_unique_size_are_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"22")
    opened: list[Path] = []
    monkeypatch.setattr(Path, "open", lambda path, mode: opened.append(path))
    assert len(set(group_identical_files([str(tmp_path / "a"), str(tmp_path / "b")]).values())) == 2
    assert opened == []
