"""An interrupted evaluation leaves what can be gone on with, and nothing else."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from palitune.data.dataset import TaskDataset, load_split
from palitune.data.sources.jsonl import Jsonl
from palitune.errors import DataError
from palitune.evaluation.config import EvaluationConfig
from palitune.evaluation.partial_predictions import PredictionCache, run_signature
from palitune.evaluation.prediction_records import PredictionRecord
from palitune.evaluation.scoring import score_predictions
from palitune.models.adapters.config import Lora
from palitune.models.config import Local
from palitune.tasks.ocr import Ocr

ANSWERS = [PredictionRecord(text=f"{n}", value=f"{n}") for n in range(4)]


@pytest.fixture
def ocr(jsonl: Jsonl) -> TaskDataset:
    return load_split(jsonl, Ocr(), "test")[0]


def test_answers_outlive_the_process_that_wrote_them(ocr: TaskDataset, tmp_path: Path) -> None:
    file = tmp_path / "run" / "predictions.jsonl"
    journal = PredictionCache(file, "abc")
    assert not file.exists()
    journal.add("ocr", ocr.examples[:2], ANSWERS[:2])
    journal.add("ocr", ocr.examples[2:3], ANSWERS[2:3])
    expected = {"ocr": {f"test-{n}": ANSWERS[n] for n in range(3)}}
    assert journal.predictions == PredictionCache(file, "abc").predictions == expected


def test_a_line_that_was_cut_off_is_dropped_and_written_anew(
    ocr: TaskDataset, tmp_path: Path
) -> None:
    file = tmp_path / "predictions.jsonl"
    PredictionCache(file, "abc").add("ocr", ocr.examples[:2], ANSWERS[:2])
    file.write_bytes(file.read_bytes()[:-9])
    journal = PredictionCache(file, "abc")
    assert list(journal.predictions["ocr"]) == ["test-0"]
    journal.add("ocr", ocr.examples[1:3], ANSWERS[1:3])
    ids = [json.loads(line)["id"] for line in file.read_text().splitlines()]
    assert ids == ["test-0", "test-1", "test-2"]


def test_another_origin_is_refused_and_a_finished_file_replaced(
    ocr: TaskDataset, tmp_path: Path
) -> None:
    file = tmp_path / "predictions.jsonl"
    PredictionCache(file, "abc").add("ocr", ocr.examples[:2], ANSWERS[:2])
    with pytest.raises(DataError, match="another model, adapter, data, task or setting"):
        PredictionCache(file, "abd")
    score_predictions([ocr], [ANSWERS], EvaluationConfig()).write_predictions(file)
    assert '"origin"' not in file.read_text()
    journal = PredictionCache(file, "abd")
    assert journal.predictions == {}
    journal.add("ocr", ocr.examples[:1], ANSWERS[:1])
    assert len(file.read_text().splitlines()) == 1


def test_a_file_that_is_no_journal_is_not_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "predictions.jsonl"
    file.write_text("my notes\n")
    with pytest.raises(DataError, match="not lines of JSON"):
        PredictionCache(file, "abc")


def test_the_origin_is_what_answers_follow_from(
    ocr: TaskDataset, jsonl: Jsonl, tmp_path: Path
) -> None:
    (tmp_path / "adapter").mkdir()
    (weights := tmp_path / "adapter" / "a.safetensors").write_text("1")
    model, adapter = Local(path=str(tmp_path / "m")), Lora(path=str(tmp_path / "adapter"))
    told = run_signature([ocr], EvaluationConfig(), [model, adapter])
    same = EvaluationConfig(
        batch_size=3, num_workers=0, bootstrap_samples=0, max_samples=2, slices=False
    )
    assert run_signature([ocr], same, [model, adapter]) == told
    assert run_signature([ocr], EvaluationConfig(perplexity=True), [model, adapter]) != told
    assert run_signature([ocr], EvaluationConfig(), [replace(model, path="n"), adapter]) != told
    longer = load_split(jsonl, Ocr(max_new_tokens=3), "test")
    assert run_signature(longer, EvaluationConfig(), [model, adapter]) != told
    os.utime(weights, ns=(1, 1))
    assert run_signature([ocr], EvaluationConfig(), [model, adapter]) != told
