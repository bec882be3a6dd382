"""A batch is divided evenly among processes."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palitune.errors import TrainingError
from palitune.training.arguments import gradient_accumulation_steps
from palitune.training.config import TrainingConfig


@given(micro=st.integers(1, 12), times=st.integers(1, 12), processes=st.integers(1, 6))
def test_every_process_gets_the_same_number_of_examples_or_an_error_has_a_valid_size(
    micro: int, times: int, processes: int
) -> None:
    batch = micro * times
    settings = TrainingConfig(global_batch_size=batch, micro_batch_size=micro)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORLD_SIZE", str(processes))
        if batch % processes:
            with pytest.raises(TrainingError, match=f"must be a multiple of {processes}, "):
                gradient_accumulation_steps(settings)
            return
        if (batch // processes) % micro:
            with pytest.raises(TrainingError) as error:
                gradient_accumulation_steps(settings)
            [divisor] = re.findall(r"Set training.micro_batch_size=(\d+)", str(error.value))
            settings = replace(settings, micro_batch_size=int(divisor))
        steps = gradient_accumulation_steps(settings)
    assert steps * settings.micro_batch_size * processes == batch
