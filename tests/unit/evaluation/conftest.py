"""Datasets of the toy data, and predictions without a model."""

from collections.abc import Callable
from pathlib import Path

import pytest

from palitune.data.dataset import TaskDataset
from palitune.data.sources.coco import Coco
from palitune.data.sources.jsonl import Jsonl
from palitune.records import Prediction

from support.toy_data import write_toy_coco, write_toy_jsonl


@pytest.fixture
def jsonl(tmp_path: Path) -> Jsonl:
    return Jsonl(path=str(write_toy_jsonl(tmp_path / "jsonl")))


@pytest.fixture
def coco(tmp_path: Path) -> Coco:
    return Coco(path=str(write_toy_coco(tmp_path / "coco")))


@pytest.fixture
def perfect() -> Callable[[TaskDataset], list[Prediction]]:
    """Predictions that equal the first reference of every example."""

    def predictions(dataset: TaskDataset) -> list[Prediction]:
        return [
            Prediction(
                id=example.id,
                text=example.suffixes[0],
                value=dataset.task.parse(example.suffixes[0], example.size, lambda start, end: 0.5),
            )
            for example in dataset.examples
        ]

    return predictions
