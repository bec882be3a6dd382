"""Stored predictions of a run folder may come from another person."""

from pathlib import Path
from typing import Any

import pytest

from palitune.evaluation.config import EvaluationConfig
from palitune.serving.startup_checks import replay_predictions
from palitune.tasks.ocr import Ocr

MODEL: Any = None
"""Not used: no prediction is generated again."""


@pytest.mark.parametrize(
    "line",
    ["{", "[]", "{}", "[" * 100_000, '{"part": "ocr", "images": 5}', '{"part": []}', '"\\ud800"'],
)
def test_damaged_predictions_are_one_sentence(line: str, tmp_path: Path) -> None:
    file = tmp_path / "predictions.jsonl"
    file.write_text(line + "\n")
    sentence = replay_predictions(MODEL, MODEL, file, {"ocr": Ocr()}, EvaluationConfig(), 16)
    assert sentence.startswith("stored predictions: not compared")
    assert "is damaged" in sentence
    assert "\n" not in sentence


def test_predictions_whose_images_are_elsewhere_are_not_compared(tmp_path: Path) -> None:
    file = tmp_path / "predictions.jsonl"
    file.write_text('{"part": "ocr", "images": ["missing.png"], "text": "1"}\n')
    sentence = replay_predictions(MODEL, MODEL, file, {"ocr": Ocr()}, EvaluationConfig(), 16)
    assert "images are elsewhere" in sentence
