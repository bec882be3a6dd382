"""An interrupted evaluation resumes from its partial file."""

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
from palitune.evaluation.scoring import score_predictions
from palitune.models.adapters.config import Lora
from palitune.models.config import Local
from palitune.records import Prediction
from palitune.tasks.ocr import Ocr

PREDICTIONS = [Prediction(id=f"test-{n}", text=f"{n}", value=f"{n}") for n in range(4)]


@pytest.fixture
def ocr(jsonl: Jsonl) -> TaskDataset:
    return load_split(jsonl, Ocr(), "test")[0]


def test_predictions_are_kept_in_the_file(ocr: TaskDataset, tmp_path: Path) -> None:
    file = tmp_path / "run" / "predictions.jsonl"
    cache = PredictionCache(file, "abc")
    assert not file.exists()
    cache.add("ocr", ocr.examples[:2], PREDICTIONS[:2])
    cache.add("ocr", ocr.examples[2:3], PREDICTIONS[2:3])
    expected = {"ocr": {f"test-{n}": PREDICTIONS[n] for n in range(3)}}
    assert cache.predictions == PredictionCache(file, "abc").predictions == expected


def test_an_incomplete_line_is_removed_and_written_again(ocr: TaskDataset, tmp_path: Path) -> None:
    file = tmp_path / "predictions.jsonl"
    PredictionCache(file, "abc").add("ocr", ocr.examples[:2], PREDICTIONS[:2])
    file.write_bytes(file.read_bytes()[:-9])
    cache = PredictionCache(file, "abc")
    assert list(cache.predictions["ocr"]) == ["test-0"]
    cache.add("ocr", ocr.examples[1:3], PREDICTIONS[1:3])
    ids = [json.loads(line)["id"] for line in file.read_text().splitlines()]
    assert ids == ["test-0", "test-1", "test-2"]


def test_another_signature_raises_an_error_and_a_finished_file_is_replaced(
    ocr: TaskDataset, tmp_path: Path
) -> None:
    file = tmp_path / "predictions.jsonl"
    PredictionCache(file, "abc").add("ocr", ocr.examples[:2], PREDICTIONS[:2])
    with pytest.raises(DataError, match="another model, adapter, data, task or setting"):
        PredictionCache(file, "abd")
    score_predictions([ocr], [PREDICTIONS], EvaluationConfig()).write_predictions(file)
    assert '"origin"' not in file.read_text()
    cache = PredictionCache(file, "abd")
    assert cache.predictions == {}
    cache.add("ocr", ocr.examples[:1], PREDICTIONS[:1])
    assert len(file.read_text().splitlines()) == 1


def test_a_file_that_is_not_json_lines_is_not_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "predictions.jsonl"
    file.write_text("my notes\n")
    with pytest.raises(DataError, match="is not a JSON lines file"):
        PredictionCache(file, "abc")


def test_the_signature_depends_on_everything_that_determines_a_prediction(
    ocr: TaskDataset, jsonl: Jsonl, tmp_path: Path
) -> None:
    (tmp_path / "adapter").mkdir()
    (weights := tmp_path / "adapter" / "a.safetensors").write_text("1")
    model, adapter = Local(path=str(tmp_path / "m")), Lora(path=str(tmp_path / "adapter"))
    signature = run_signature([ocr], EvaluationConfig(), [model, adapter])
    same = EvaluationConfig(
        batch_size=3, num_workers=0, bootstrap_samples=0, max_samples=2, slices=False
    )
    assert run_signature([ocr], same, [model, adapter]) == signature
    assert run_signature([ocr], EvaluationConfig(perplexity=True), [model, adapter]) != signature
    assert (
        run_signature([ocr], EvaluationConfig(), [replace(model, path="n"), adapter]) != signature
    )
    longer = load_split(jsonl, Ocr(max_new_tokens=3), "test")
    assert run_signature(longer, EvaluationConfig(), [model, adapter]) != signature
    os.utime(weights, ns=(1, 1))
    assert run_signature([ocr], EvaluationConfig(), [model, adapter]) != signature
