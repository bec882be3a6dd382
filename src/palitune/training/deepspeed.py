"""DeepSpeed's ZeRO in a training: each process keeps a share of the optimizer's memory.

Weights stay whole in every process. Checkpoints are those of any other engine, which can go on from
them.
"""

import logging
import os
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from palitune.errors import TrainingError
from palitune.training.config import Optimizer, TrainingConfig

_ADAM_MOMENTS = ("exp_avg", "exp_avg_sq")


def is_enabled() -> bool:
    """Tell whether accelerate will use DeepSpeed; `launch=deepspeed` tells it to."""
    return os.environ.get("ACCELERATE_USE_DEEPSPEED", "").lower() == "true"


def configure(settings: TrainingConfig, device: torch.device) -> None:
    """Refuse what is not shared out, and keep DeepSpeed from compiling its own talk among CPUs."""
    if "ACCELERATE_DEEPSPEED_CONFIG_FILE" in os.environ:
        raise TrainingError(
            "launch=deepspeed tells DeepSpeed what to do; take deepspeed_config_file out of what "
            "accelerate is told"
        )
    if settings.optimizer is not Optimizer.adamw:
        raise TrainingError(
            f"launch=deepspeed shares out the memory of adamw, not of {settings.optimizer.value}; "
            "use training.optimizer=adamw"
        )
    # It would warn of another number of micro-batches, which the Trainer counts.
    logging.getLogger("accelerate.accelerator").setLevel(logging.ERROR)
    if device.type == "cpu":
        import deepspeed.ops

        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def optimizer_state(optimizer: Any) -> dict[int, dict[str, torch.Tensor]]:
    """Collect what the optimizer remembers of each weight, as it would in one process."""
    from deepspeed.utils import lazy_init_hp_params_optimizer_state, safe_get_full_optimizer_state

    remembered = optimizer.optimizer.state
    step = next(iter(remembered.values()))["step"]
    for weights, share in _param_groups(optimizer):
        # DeepSpeed does so after the step of its first group, when others have no memory yet.
        lazy_init_hp_params_optimizer_state(weights, share, remembered)
    return {
        number: {"step": step, **{m: safe_get_full_optimizer_state(p, m) for m in _ADAM_MOMENTS}}
        for number, p in enumerate(_trainable_parameters(optimizer))
    }


def load_optimizer_state(
    optimizer: Any, saved_state: Mapping[int, Mapping[str, torch.Tensor]]
) -> None:
    """Give the optimizer this process's share of what it remembered, and of the weights as is."""
    optimizer.refresh_fp32_params()
    numbers = {weight: number for number, weight in enumerate(_trainable_parameters(optimizer))}
    for weights, share in _param_groups(optimizer):
        state = {moment: torch.zeros_like(share) for moment in _ADAM_MOMENTS}
        for weight in weights:
            if (kept := weight._hp_mapping) is None:
                continue  # in the shares of other processes
            theirs, ours = kept.lp_fragment_address, kept.hp_fragment_address
            for moment, values in state.items():
                whole = saved_state[numbers[weight]][moment].flatten()
                part = whole.narrow(0, theirs.start, theirs.numel)
                values.narrow(0, ours.start, ours.numel).copy_(part)
        step = saved_state[numbers[weights[0]]]["step"]
        optimizer.optimizer.state[share] = {"step": step.clone(), **state}


def _param_groups(optimizer: Any) -> Iterator[tuple[list[Any], torch.Tensor]]:
    """The groups of trained weights, each with this process's share of all its weights in a row."""
    return zip(optimizer.bit16_groups, optimizer.single_partition_of_fp32_groups, strict=True)


def _trainable_parameters(optimizer: Any) -> Iterator[torch.nn.Parameter]:
    """The trained weights in the order in which an optimizer of one process numbers them."""
    for weights, _ in _param_groups(optimizer):
        yield from weights
