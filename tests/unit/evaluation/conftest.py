"""Parts of the toy data, and answers without a model."""

from collections.abc import Callable
from pathlib import Path

import pytest

from palitune import data
from palitune.data.dataset import Part
from palitune.data.sources.base import Source
from palitune.data.sources.coco import Coco
from palitune.data.sources.jsonl import Jsonl
from palitune.evaluation.records import Answer
from palitune.tasks import Task

from toy_data import write_toy_coco, write_toy_jsonl


@pytest.fixture
def jsonl(tmp_path: Path) -> Jsonl:
    return Jsonl(path=str(write_toy_jsonl(tmp_path / "jsonl")))


@pytest.fixture
def coco(tmp_path: Path) -> Coco:
    return Coco(path=str(write_toy_coco(tmp_path / "coco")))


@pytest.fixture
def part() -> Callable[[Source, Task], Part]:
    """The test split of a source under a task: four examples."""
    return lambda source, task: data.load(source, task, "test")[0]


@pytest.fixture
def right() -> Callable[[Part], list[Answer]]:
    """The answers of somebody who knows the references."""

    def answers(part: Part) -> list[Answer]:
        texts = [example.suffixes[0] for example in part.examples]
        sizes = [example.size for example in part.examples]
        return [
            Answer(text=text, value=part.task.parse(text, size, lambda start, end: 0.5))
            for text, size in zip(texts, sizes, strict=True)
        ]

    return answers
