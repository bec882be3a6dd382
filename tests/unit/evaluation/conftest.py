"""Parts of the toy data, and answers without a model."""

from collections.abc import Callable
from pathlib import Path

import pytest

from palitune.data.dataset import TaskDataset, load_split
from palitune.data.sources.base import Source
from palitune.data.sources.coco import Coco
from palitune.data.sources.jsonl import Jsonl
from palitune.evaluation.prediction_records import PredictionRecord
from palitune.tasks import Task

from support.toy_data import write_toy_coco, write_toy_jsonl


@pytest.fixture
def jsonl(tmp_path: Path) -> Jsonl:
    return Jsonl(path=str(write_toy_jsonl(tmp_path / "jsonl")))


@pytest.fixture
def coco(tmp_path: Path) -> Coco:
    return Coco(path=str(write_toy_coco(tmp_path / "coco")))


@pytest.fixture
def part() -> Callable[[Source, Task], TaskDataset]:
    """The test split of a source under a task: four examples."""
    return lambda source, task: load_split(source, task, "test")[0]


@pytest.fixture
def right() -> Callable[[TaskDataset], list[PredictionRecord]]:
    """The answers of somebody who knows the references."""

    def answers(part: TaskDataset) -> list[PredictionRecord]:
        texts = [example.suffixes[0] for example in part.examples]
        sizes = [example.size for example in part.examples]
        return [
            PredictionRecord(text=text, value=part.task.parse(text, size, lambda start, end: 0.5))
            for text, size in zip(texts, sizes, strict=True)
        ]

    return answers
