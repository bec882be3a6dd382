"""Images without a file."""

from pathlib import Path

import pytest

from palitune.data.images.extracted import extract_to_cache


def test_equal_images_are_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALITUNE_CACHE", str(tmp_path))
    first, second, other = extract_to_cache(b"a"), extract_to_cache(b"a"), extract_to_cache(b"b")
    assert first == second != other
    assert Path(first).read_bytes() == b"a"
    assert len([file for file in tmp_path.rglob("*") if file.is_file()]) == 2
