"""Event files of a run as TensorBoard reads them."""

import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from palitune.report.run_reader import read_run_folder
from palitune.report.trackers.config import TensorBoardConfig
from palitune.report.trackers.fail_safe import FailSafeTracker
from palitune.report.trackers.tensorboard_tracker import TensorBoardTracker


def events(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder)).Reload()


def test_curves_final_numbers_and_texts_are_read_back(finished_run: Path, tmp_path: Path) -> None:
    log = TensorBoardTracker(tmp_path, {"adapter": {"rank": 16}})
    log.log({"loss": 2.0, "learning_rate": 1e-4}, 1)
    log.log({"loss": 1.0}, 5)
    answers = [{"text": "7", "reward": 1.0}, {"text": "71", "reward": 0.5}]
    sample = {"step": 3, "id": "a", "prefix": "ocr", "answers": answers}
    log.publish(replace(read_run_folder(finished_run), samples=(sample,)))
    log.finish()

    data = events(tmp_path)
    assert [(e.step, e.value) for e in data.Scalars("loss")] == [(1, 2.0), (5, 1.0)]
    (after,) = data.Scalars("after/ocr/exact_match")
    assert (after.step, after.value) == (5, pytest.approx(0.6543))
    (before,) = data.Scalars("before/ocr/exact_match")
    assert (before.step, before.value) == (0, pytest.approx(0.1234))
    texts = {tag: data.Tensors(tag)[0].tensor_proto.string_val[0].decode() for tag in
             data.Tags()["tensors"]}  # fmt: skip
    assert "rank: 16" in texts["config/text_summary"]
    assert texts["samples/text_summary"] == "a `ocr`\n\n- 1.000 `7`\n- 0.500 `71`"
    assert "| ocr (n = 20) | exact_match |" in texts["metrics/text_summary"]


def test_a_resumed_run_repeats_no_point_and_hides_none(finished_run: Path, tmp_path: Path) -> None:
    for run, steps in enumerate([range(1, 7), range(5, 1001, 5)]):
        log = TensorBoardTracker(tmp_path, {"run": run})
        for step in steps:
            log.log({"loss": float(run)}, step)
        log.finish()
    log = TensorBoardTracker(tmp_path, {})  # a resumed run without a step left
    log.publish(read_run_folder(finished_run))
    log.finish()

    data = events(tmp_path)
    points = [(e.step, e.value) for e in data.Scalars("loss")]
    *_, last = (entry["loss"] for entry in read_run_folder(finished_run).history if "loss" in entry)
    assert points[:4] == [(step, 0.0) for step in range(1, 5)]
    assert points[4:-1] == [(step, 1.0) for step in range(5, 1000, 5)]
    assert points[-1] == (1000, pytest.approx(last))
    assert [e.step for e in data.Scalars("after/ocr/exact_match")] == [1000]
    assert [e.step for e in data.Tensors("config/text_summary")] == [1, 5, 1000]


def test_a_tracked_run_writes_into_its_own_folder(tmp_path: Path) -> None:
    tracker = FailSafeTracker(TensorBoardConfig(), tmp_path, {})
    tracker.log({"loss": 2.0}, 1)
    tracker.publish(tmp_path)  # there are no metrics yet
    tracker.finish()
    assert events(tmp_path / "tensorboard").Tags()["scalars"] == ["loss"]


def test_a_missing_package_is_reported_with_its_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with caplog.at_level(logging.WARNING, logger="palitune"):
        tracker = FailSafeTracker(TensorBoardConfig(), tmp_path, {})
        tracker.log({"loss": 1.0}, 1)
        tracker.finish()
    (record,) = caplog.records
    assert "the package tensorboard is missing: pip install tensorboard" in record.getMessage()
