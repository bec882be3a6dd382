"""A small model on paper, in a training."""

from collections.abc import Callable
from pathlib import Path

import pytest

from palitune.models.adapters import Adapter
from palitune.models.checkpoints import Dtype, Local
from palitune.planning.choices import set_up
from palitune.planning.held import Setup
from palitune.planning.on_paper import put_on_paper
from palitune.training.settings import Training

SetUp = Callable[..., tuple[Local, Setup]]


@pytest.fixture
def small(tiny: Callable[[str], Path]) -> SetUp:
    def made(
        family: str, adapter: Adapter, dtype: Dtype = Dtype.fp32, **settings: bool
    ) -> tuple[Local, Setup]:
        model = Local(path=str(tiny(family)), dtype=dtype)
        training = Training(batch_size=32, micro_batch_size=32, **settings)  # type: ignore[arg-type]
        return model, set_up(put_on_paper(model, adapter), model, adapter, training, "cpu")

    return made
