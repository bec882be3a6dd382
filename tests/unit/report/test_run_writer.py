"""Files of a run folder other than its results."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from palitune.report.run_writer import create_run_folder, open_tracker, write_skipped
from palitune.report.trackers.config import NullTrackerConfig, Tracker


def part(name: str, skipped: list[str], dropped: list[str]) -> Any:
    return SimpleNamespace(name=name, examples=SimpleNamespace(skipped=skipped, dropped=dropped))


def test_bad_rows_and_objects_that_tasks_leave_out_are_listed_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_skipped(
        tmp_path,
        [
            part("boats", ["a.jsonl:1: bad"], ["left out: 3 small objects, in 2 rows: a; b"]),
            part("boats", ["a.jsonl:1: bad"], []),
        ],
    )
    assert (tmp_path / "skipped.txt").read_text() == (
        "boats: left out: 3 small objects, in 2 rows: a; b\na.jsonl:1: bad\n"
    )
    assert capsys.readouterr().out.startswith("Skipped 1 bad rows; see ")


def test_nothing_left_out_is_no_file(tmp_path: Path) -> None:
    write_skipped(tmp_path, [part("boats", [], [])])
    assert list(tmp_path.iterdir()) == []


def test_the_environment_holds_versions_and_a_fingerprint_of_each_part(tmp_path: Path) -> None:
    examples = SimpleNamespace(fingerprint=lambda: "9f86d081884c7d65", skipped=[], dropped=[])
    boats: Any = SimpleNamespace(name="boats", examples=examples)
    folder = create_run_folder(str(tmp_path / "run"), "seed: 0\n", train=[boats], validation=[])
    written = json.loads((folder / "environment.json").read_text())
    assert written["data"] == {"train": {"boats": "9f86d081884c7d65"}}
    assert {"python", "torch", "device", "machine"} <= written.keys()
    assert (folder / "config.yaml").read_text() == "seed: 0\n"


@pytest.mark.parametrize("fails", [False, True])
def test_a_tracker_receives_the_results_of_a_successful_run_and_is_always_closed(
    fails: bool, finished_run: Path
) -> None:
    calls: list[str] = []

    class RecordingConfig(NullTrackerConfig):
        def open(self, folder: Path, config: Any) -> Tracker:
            tracker: Any = SimpleNamespace(
                log=lambda metrics, step: calls.append(f"log {step}"),
                publish=lambda run: calls.append(f"publish {run.path.name}"),
                finish=lambda: calls.append("finish"),
            )
            return tracker

    def run() -> None:
        with open_tracker(RecordingConfig(), finished_run) as log:
            log({"loss": 1.0}, 3)
            if fails:
                raise RuntimeError("out of memory")

    if fails:
        with pytest.raises(RuntimeError, match="out of memory"):
            run()
    else:
        run()
    assert calls == ["log 3", *[f"publish {finished_run.name}"] * (not fails), "finish"]
