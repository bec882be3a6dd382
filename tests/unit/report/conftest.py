"""Run folders shared by several tests."""

import json
import math
from pathlib import Path

import pytest

from support.run_folders import make_run


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finetune run of 20 examples per part without a report. Tests must not change it."""
    return make_run(tmp_path_factory.mktemp("runs") / "a-run", count=20)


@pytest.fixture
def evaluated_run(tmp_path: Path) -> Path:
    """The smallest run folder: only `metrics.json`, without values before training."""
    metrics = {
        "split": "test",
        "examples": {"ocr": 3},
        "before": None,
        "after": {"ocr/exact_match": 0.25, "ocr/anls_rrc": math.nan, "ocr/malformed": 0.0},
    }
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    return tmp_path
