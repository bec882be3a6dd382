import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import wandb

from palitune.report.run_reader import RunFolder
from palitune.report.trackers.config import (
    NullTrackerConfig,
    Tracker,
    TrackerConfig,
    WandbConfig,
    WandbMode,
)
from palitune.report.trackers.fail_safe import FailSafeTracker


@dataclass(kw_only=True)
class Broken(TrackerConfig):
    """Fails when it is opened, or with the first number."""

    name: ClassVar[str] = "broken"
    opens: bool

    def open(self, folder: Path, config: Mapping[str, Any]) -> Tracker:
        if not self.opens:
            raise OSError("no network")
        return self

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        raise OSError("no network")

    def publish(self, run: RunFolder) -> None:
        raise OSError("no network")

    def finish(self) -> None:
        raise AssertionError("a disabled tracker is not called")


def test_the_null_tracker_writes_nothing(tmp_path: Path) -> None:
    tracker = FailSafeTracker(NullTrackerConfig(), tmp_path, {})
    tracker.log({"loss": 1.0}, 1)
    tracker.finish()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("opens", [False, True])
def test_a_failing_tracker_warns_once_and_the_run_continues(
    opens: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        tracker = FailSafeTracker(Broken(opens=opens), tmp_path, {})
        for step in range(3):
            tracker.log({"loss": 1.0}, step)
        tracker.finish()
    assert len(caplog.records) == 1
    assert "tracking with broken has stopped (OSError: no network)" in caplog.text


def test_results_that_cannot_be_published_are_one_warning(
    finished_run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        tracker = FailSafeTracker(Broken(opens=True), finished_run, {})
        tracker.publish(finished_run)
        tracker.publish(finished_run)
    assert len(caplog.records) == 1


def test_a_missing_library_is_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with caplog.at_level(logging.WARNING):
        FailSafeTracker(WandbConfig(), tmp_path, {}).log({"loss": 1.0}, 1)
    (record,) = caplog.records
    assert "tracking with wandb has stopped (ModuleNotFoundError" in record.getMessage()


def test_wandb_writes_an_offline_run_into_the_run_folder_and_no_key(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "5ec3e7" * 6 + "0123")
    monkeypatch.setenv("HF_TOKEN", "hf_5ec3e75ec3e75ec3e7")
    caplog.set_level(logging.INFO, logger="palitune")
    tracker = FailSafeTracker(
        WandbConfig(mode=WandbMode.offline, tags=["test"]), tmp_path, {"adapter": {"rank": 16}}
    )
    tracker.log({"loss": 1.0, "learning_rate": 1e-4}, 1)
    tracker.log({"loss": float("nan")}, 2)
    tracker.finish()
    wandb.teardown()  # waits until the library's own process has written everything
    messages = [r.getMessage() for r in caplog.records if r.name.startswith("palitune")]
    assert messages == [
        f"wandb is offline; upload the run with: wandb sync {tmp_path}/wandb/offline-*"
    ]
    (written,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    assert b"learning_rate" in written.read_bytes()
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert len(files) > 3
    assert not [file for file in files if b"5ec3e7" in file.read_bytes()]
