"""The toy data set in both formats, once per session: tests that change it make their own."""

from pathlib import Path

import pytest

from support.toy_data import write_toy_coco, write_toy_jsonl


@pytest.fixture(scope="session")
def toy_jsonl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_jsonl(tmp_path_factory.mktemp("toy_jsonl"))


@pytest.fixture(scope="session")
def toy_coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_coco(tmp_path_factory.mktemp("toy_coco"))
