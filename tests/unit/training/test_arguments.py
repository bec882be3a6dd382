"""How a batch is shared out."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palitune.errors import TrainingError
from palitune.training.arguments import gradient_accumulation_steps
from palitune.training.config import TrainingConfig


@given(micro=st.integers(1, 12), times=st.integers(1, 12), processes=st.integers(1, 6))
def test_every_process_gets_as_many_examples_or_a_way_out_is_told(
    micro: int, times: int, processes: int
) -> None:
    batch = micro * times
    settings = TrainingConfig(global_batch_size=batch, micro_batch_size=micro)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORLD_SIZE", str(processes))
        if batch % processes:
            with pytest.raises(TrainingError, match=f"make it a multiple of {processes}"):
                gradient_accumulation_steps(settings)
            return
        if (batch // processes) % micro:
            with pytest.raises(TrainingError) as told:
                gradient_accumulation_steps(settings)
            [fitting] = re.findall(r"set training.micro_batch_size=(\d+)", str(told.value))
            settings = replace(settings, micro_batch_size=int(fitting))
        steps = gradient_accumulation_steps(settings)
    assert steps * settings.micro_batch_size * processes == batch
