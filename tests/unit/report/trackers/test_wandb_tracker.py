"""Content of a Weights & Biases run, read from the files of its offline mode."""

import json
import logging
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wandb
from PIL import Image
from wandb.proto.wandb_internal_pb2 import Record

from palitune.records import Instance
from palitune.report.run_reader import EvaluatedExample, ScoredPrediction, read_run_folder
from palitune.report.trackers.config import WandbConfig, WandbMode
from palitune.report.trackers.fail_safe import FailSafeTracker
from palitune.report.trackers.wandb_tracker import (
    examples_table,
    final_metrics,
    samples_table,
    wandb_image,
)

SIZE = (200, 100)
BOX = (20.0, 10.0, 100.0, 60.0)


@pytest.fixture
def boats(tmp_path: Path) -> EvaluatedExample:
    """A boat with a mask, predicted as a buoy after training and malformed before."""
    Image.new("RGB", SIZE, "white").save(tmp_path / "boat.png")
    mask = np.zeros((100, 200), bool)
    mask[10:60, 20:100] = True
    return EvaluatedExample(
        id="7",
        part="boats",
        images=(str(tmp_path / "boat.png"),),
        size=SIZE,
        prefix="detect boat",
        suffixes=("<loc…> boat",),
        reference=(Instance("boat", BOX, mask=mask),),
        after=ScoredPrediction(
            text="<loc…> buoy",
            value=(Instance("buoy", (0.0, 0.0, 300.0, 50.0), score=0.5),),
            scores={"f1@.5": 0.25},
        ),
        before=ScoredPrediction(text="?", value=None, scores={"f1@.5": 0.0}),
    )


def records(run: Path) -> Iterator[Any]:
    """Read the records of a `.wandb` file: chunks in blocks of 32 KiB after a header of 7 bytes."""
    content = next(run.glob("wandb/offline-run-*/run-*.wandb")).read_bytes()
    position, record_bytes = 7, b""
    while position + 7 <= len(content):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        length, kind = struct.unpack("<HB", content[position + 4 : position + 7])
        record_bytes += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # complete, or the last chunk
            record = Record()
            record.ParseFromString(record_bytes)
            yield record
            record_bytes = b""


def entries(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def test_boxes_are_shares_of_the_image_with_class_and_score(boats: EvaluatedExample) -> None:
    drawn = wandb_image(boats, {"boat": 1, "buoy": 2})
    assert {side: boxes._val for side, boxes in drawn._boxes.items()} == {
        "reference": [
            {
                "position": {"minX": 0.1, "maxX": 0.5, "minY": 0.1, "maxY": 0.6},
                "class_id": 1,
                "box_caption": "boat",
            }
        ],
        "after": [
            {
                "position": {"minX": 0.0, "maxX": 1.0, "minY": 0.0, "maxY": 0.5},
                "class_id": 2,
                "box_caption": "buoy 0.50",
                "scores": {"score": 0.5},
            }
        ],
    }


def test_masks_are_painted_in_class_numbers_at_the_size_of_the_image(
    boats: EvaluatedExample,
) -> None:
    drawn = wandb_image(boats, {"boat": 1, "buoy": 2})
    assert list(drawn._masks) == ["reference"]
    painted = np.asarray(Image.open(drawn._masks["reference"]._path))
    assert painted.shape == drawn.image.size[::-1] == (200, 400)
    assert set(np.unique(painted)) == {0, 1}
    assert (painted == 1).mean() == pytest.approx(0.8 * 0.5 * 0.5, abs=0.01)


def test_a_table_has_the_texts_and_scores_of_each_example(boats: EvaluatedExample) -> None:
    table = examples_table([boats])
    assert table.columns == [
        "id", "image", "prefix", "reference", "text", "text before", "malformed", "f1@.5",
    ]  # fmt: skip
    (row,) = table.data
    assert row[0] == "7"
    assert isinstance(row[1], wandb.Image)
    assert row[2:] == ["detect boat", "<loc…> boat", "<loc…> buoy", "?", False, 0.25]


def test_a_table_of_samples_has_a_row_per_completion() -> None:
    answers = [
        {"text": "7", "reward": 1.0, "rewards": {"exact_match": 1.0, "valid": 1.0}},
        {"text": "", "reward": 0.5, "rewards": {"exact_match": 0.0, "valid": 1.0}},
    ]
    table = samples_table(
        [{"step": 3, "part": "ocr", "id": "7", "prefix": "ocr", "answers": answers}]
    )
    assert table.data == [
        [3, "ocr", "7", "ocr", "7", 1.0, "exact_match 1.000, valid 1.000"],
        [3, "ocr", "7", "ocr", "", 0.5, "exact_match 0.000, valid 1.000"],
    ]


def test_the_summary_contains_no_undefined_metrics(finished_run: Path) -> None:
    metrics = final_metrics(read_run_folder(finished_run))
    assert metrics["after/ocr/exact_match"] == 0.6543
    assert metrics["before/ocr/exact_match"] == 0.1234
    assert "after/detection/APs" not in metrics


def test_an_offline_run_contains_curves_summary_tables_report_and_adapter(
    finished_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_ARTIFACT_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    folder = tmp_path / "run"
    folder.mkdir()
    for file in finished_run.iterdir():
        if file.suffix in (".json", ".jsonl", ".yaml"):
            (folder / file.name).write_bytes(file.read_bytes())
    (folder / "report.html").write_text("a report")
    (folder / "adapter").mkdir()
    (folder / "adapter/adapter_config.json").write_text("{}")

    with caplog.at_level(logging.WARNING, logger="palitune"):
        tracker = FailSafeTracker(
            WandbConfig(mode=WandbMode.offline), folder, {"adapter": {"rank": 16}}
        )
        tracker.log({"loss": 1.5}, 1)
        tracker.log({"loss": 0.5}, 2)
        tracker.publish(folder)
        tracker.finish()
        wandb.teardown()  # waits until the library's own process has written everything
    assert [record.getMessage() for record in caplog.records] == []

    written = list(records(folder))
    curves = [entries(r.history.item) for r in written if r.HasField("history")]
    assert [row["loss"] for row in curves if "loss" in row] == [1.5, 0.5]
    kinds = {key: row[key] for row in curves for key in row if key.endswith("/_type")}
    assert kinds == {
        "examples/ocr/_type": "table-file",
        "examples/detection/_type": "table-file",
    }
    summed: dict[str, Any] = {}
    for record in written:
        if record.HasField("summary"):
            summed |= entries(record.summary.update)
    assert summed["after/ocr/exact_match"] == 0.6543
    artifacts = [
        r.request.log_artifact.artifact for r in written if r.request.HasField("log_artifact")
    ]
    artifacts += [r.artifact for r in written if r.HasField("artifact")]
    files = {a.type: {entry.path for entry in a.manifest.contents} for a in artifacts}
    assert {"report.html", "metrics.json", "predictions.jsonl", "config.yaml"} <= files["report"]
    assert files["model"] == {"adapter_config.json"}
