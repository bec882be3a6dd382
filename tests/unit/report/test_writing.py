"""What a run did not learn from, or was not judged on, is listed in its folder."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from palitune.report import list_skipped


def part(name: str, skipped: list[str], left_out: list[str]) -> Any:
    return SimpleNamespace(name=name, examples=SimpleNamespace(skipped=skipped, left_out=left_out))


def test_bad_rows_and_what_tasks_leave_out_are_listed_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    list_skipped(
        tmp_path,
        [
            part("boats", ["a.jsonl:1: bad"], ["left out: 3 small objects, in 2 rows: a; b"]),
            part("boats", ["a.jsonl:1: bad"], []),
        ],
    )
    assert (tmp_path / "skipped.txt").read_text() == (
        "boats: left out: 3 small objects, in 2 rows: a; b\na.jsonl:1: bad\n"
    )
    assert capsys.readouterr().out.startswith("1 bad rows were skipped; they are listed in ")


def test_nothing_left_out_is_no_file(tmp_path: Path) -> None:
    list_skipped(tmp_path, [part("boats", [], [])])
    assert list(tmp_path.iterdir()) == []
