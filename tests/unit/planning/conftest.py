"""The shape of a small model in a training run."""

from collections.abc import Callable
from pathlib import Path

import pytest

from palitune.models.adapters.config import AdapterConfig
from palitune.models.config import Device, Dtype, Local
from palitune.planning.alternatives import make_memory_context
from palitune.planning.model_shapes import build_model_shape
from palitune.planning.static_memory import MemoryContext
from palitune.training.config import TrainingConfig

MakeContext = Callable[..., tuple[Local, MemoryContext]]


@pytest.fixture
def small(tiny: Callable[[str], Path]) -> MakeContext:
    def make(
        family: str, adapter: AdapterConfig, dtype: Dtype = Dtype.fp32, **settings: bool
    ) -> tuple[Local, MemoryContext]:
        model = Local(path=str(tiny(family)), dtype=dtype, device=Device.cpu)
        training = TrainingConfig(global_batch_size=32, micro_batch_size=32, **settings)  # type: ignore[arg-type]
        return model, make_memory_context(
            build_model_shape(model, adapter), model, adapter, training, "cpu"
        )

    return make
