"""Settings of the runners of a sweep."""

import re
from typing import Any

import pytest

from palitune.config.runners import RayConfig, RunnerConfig, SlurmConfig


@pytest.mark.parametrize(
    ("schema", "values", "message"),
    [
        (RunnerConfig, {"max_parallel": 0}, "runner.max_parallel must be at least 1, got 0."),
        (RayConfig, {"gpus_per_job": -1}, "runner.gpus_per_job must be at least 0, got -1."),
        (SlurmConfig, {"nodes": 0}, "runner.nodes must be at least 1, got 0."),
        (SlurmConfig, {"mem_gb": 0}, "runner.mem_gb must be at least 1, got 0."),
        (SlurmConfig, {"cluster": "pbs"}, "runner.cluster must be slurm or local, got pbs"),
    ],
)
def test_an_invalid_value_is_an_error(
    schema: type[RunnerConfig], values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        schema(**values)
