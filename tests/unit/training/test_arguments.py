"""A batch is divided evenly among processes, and is not multiplied by visible GPUs."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import TrainingArguments
from trl import DPOConfig, GRPOConfig, RLOOConfig

from palitune.errors import TrainingError
from palitune.training.arguments import build_training_arguments, gradient_accumulation_steps
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


@pytest.mark.parametrize("arguments_class", [TrainingArguments, GRPOConfig, RLOOConfig, DPOConfig])
def test_one_process_that_sees_two_gpus_uses_one_and_keeps_its_batch(
    arguments_class: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    is_trl = arguments_class is not TrainingArguments
    arguments = build_training_arguments(
        TrainingConfig(global_batch_size=16, micro_batch_size=4),
        0,
        tmp_path,
        do_eval=False,
        device=torch.device("cuda"),
        arguments_class=arguments_class,
        **({"bf16": False} if is_trl else {}),
    )
    assert arguments.n_gpu == 1
    assert arguments.train_batch_size == 4
    assert arguments.gradient_accumulation_steps == 4


def test_copies_to_a_gpu_are_asynchronous_and_ddp_does_not_search_for_unused_parameters(
    tmp_path: Path,
) -> None:
    arguments = build_training_arguments(
        TrainingConfig(), 0, tmp_path, do_eval=False, device=torch.device("cuda")
    )
    assert arguments.dataloader_pin_memory
    assert arguments.accelerator_config.non_blocking
    assert arguments.ddp_find_unused_parameters is False
