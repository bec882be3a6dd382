"""An interrupted evaluation leaves what can be gone on with, and nothing else."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from palitune import data
from palitune.data.dataset import Part
from palitune.data.sources.jsonl import Jsonl
from palitune.evaluation.journal import Journal, origin
from palitune.evaluation.judging import judge
from palitune.evaluation.records import Answer
from palitune.evaluation.settings import Evaluation
from palitune.examples import DataError
from palitune.models.adapters import Lora
from palitune.models.checkpoints import Local
from palitune.tasks.ocr import Ocr

ANSWERS = [Answer(text=f"{n}", value=f"{n}") for n in range(4)]


@pytest.fixture
def ocr(jsonl: Jsonl) -> Part:
    return data.load(jsonl, Ocr(), "test")[0]


def test_answers_outlive_the_process_that_wrote_them(ocr: Part, tmp_path: Path) -> None:
    file = tmp_path / "run" / "predictions.jsonl"
    journal = Journal(file, "abc")
    assert not file.exists()
    journal.add("ocr", ocr.examples[:2], ANSWERS[:2])
    journal.add("ocr", ocr.examples[2:3], ANSWERS[2:3])
    expected = {"ocr": {f"test-{n}": ANSWERS[n] for n in range(3)}}
    assert journal.known == Journal(file, "abc").known == expected


def test_a_line_that_was_cut_off_is_dropped_and_written_anew(ocr: Part, tmp_path: Path) -> None:
    file = tmp_path / "predictions.jsonl"
    Journal(file, "abc").add("ocr", ocr.examples[:2], ANSWERS[:2])
    file.write_bytes(file.read_bytes()[:-9])
    journal = Journal(file, "abc")
    assert list(journal.known["ocr"]) == ["test-0"]
    journal.add("ocr", ocr.examples[1:3], ANSWERS[1:3])
    ids = [json.loads(line)["id"] for line in file.read_text().splitlines()]
    assert ids == ["test-0", "test-1", "test-2"]


def test_another_origin_is_refused_and_a_finished_file_replaced(ocr: Part, tmp_path: Path) -> None:
    file = tmp_path / "predictions.jsonl"
    Journal(file, "abc").add("ocr", ocr.examples[:2], ANSWERS[:2])
    with pytest.raises(DataError, match="another model, adapter, data, task or setting"):
        Journal(file, "abd")
    judge([ocr], [ANSWERS], Evaluation()).write_predictions(file)
    assert '"origin"' not in file.read_text()
    journal = Journal(file, "abd")
    assert journal.known == {}
    journal.add("ocr", ocr.examples[:1], ANSWERS[:1])
    assert len(file.read_text().splitlines()) == 1


def test_a_file_that_is_no_journal_is_not_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "predictions.jsonl"
    file.write_text("my notes\n")
    with pytest.raises(DataError, match="not lines of JSON"):
        Journal(file, "abc")


def test_the_origin_is_what_answers_follow_from(ocr: Part, jsonl: Jsonl, tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    (weights := tmp_path / "adapter" / "a.safetensors").write_text("1")
    model, adapter = Local(path=str(tmp_path / "m")), Lora(path=str(tmp_path / "adapter"))
    told = origin([ocr], Evaluation(), [model, adapter])
    same = Evaluation(batch_size=3, workers=0, resamples=0, limit=2, slices=False)
    assert origin([ocr], same, [model, adapter]) == told
    assert origin([ocr], Evaluation(perplexity=True), [model, adapter]) != told
    assert origin([ocr], Evaluation(), [replace(model, path="n"), adapter]) != told
    longer = data.load(jsonl, Ocr(max_new_tokens=3), "test")
    assert origin(longer, Evaluation(), [model, adapter]) != told
    os.utime(weights, ns=(1, 1))
    assert origin([ocr], Evaluation(), [model, adapter]) != told
