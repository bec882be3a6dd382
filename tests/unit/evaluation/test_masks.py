"""Masks in an evaluation: scored, written as run lengths, read by the report."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from palitune.data.dataset import load_split
from palitune.data.sources.base import Source
from palitune.errors import DataError
from palitune.evaluation.config import EvaluationConfig
from palitune.evaluation.evaluate import evaluate
from palitune.models.config import Local
from palitune.models.generation.generate import Generation
from palitune.models.loading import load, load_processor
from palitune.records import Instance, Row
from palitune.report.run_reader import get_instances, read_run_folder
from palitune.tasks import TASKS

from support.toy_data import toy_mask

SIZE = (60, 40)
BOX = (10, 5, 50, 30)


@dataclass(kw_only=True)
class EllipseSource(Source):
    """One image of an ellipse."""

    name: ClassVar[str] = "ellipse"
    patterns: ClassVar[tuple[str, ...]] = ("{split}.png",)

    def read(self, file: Path, split: str) -> Iterator[Row | DataError]:
        boat = Instance("boat", BOX, mask=toy_mask(SIZE, BOX))
        yield Row(
            id="1",
            images=(str(file),),
            size=SIZE,
            location=str(file),
            question="the boat",
            instances=(boat,),
            classes=("boat",),
        )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("segmentation", {"mask_f1@.5": 1, "mask_AP50": 1, "malformed_objects": 0}),
        ("referring_segmentation", {"precision@.5": 1, "box_accuracy@.75": 1, "malformed": 0}),
    ],
)
def test_a_correct_mask_is_scored_and_read_back(
    name: str,
    expected: dict[str, float],
    monkeypatch: pytest.MonkeyPatch,
    tiny: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    Image.fromarray(toy_mask(SIZE, BOX)).convert("RGB").save(tmp_path / "test.png")
    datasets = load_split(EllipseSource(path=str(tmp_path)), TASKS[name](), "test")
    [example] = datasets[0].examples
    [suffix] = example.suffixes

    def generate_reference(*_: Any, **__: Any) -> list[Generation]:
        return [Generation(suffix, (0,), (len(suffix),), (-0.5,), finished=True)]

    monkeypatch.setattr("palitune.evaluation.answering.generate", generate_reference)
    model = Local(path=str(tiny("paligemma")))
    results = evaluate(
        load(model), load_processor(model), datasets, EvaluationConfig(num_workers=0)
    )
    assert {key: results.metrics[f"{name}/{key}"] for key in expected} == pytest.approx(expected)

    results.write_predictions(tmp_path / "predictions.jsonl")
    (tmp_path / "metrics.json").write_text(json.dumps({"split": "test", "examples": {}}))
    [evaluated] = read_run_folder(tmp_path).examples
    assert evaluated.reference == example.reference
    [instance] = get_instances(evaluated.after.value)
    assert instance.mask is not None
    assert np.array_equal(instance.mask, datasets[0].task.parse(suffix, SIZE)[0].mask)  # type: ignore
