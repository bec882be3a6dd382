"""DeepSpeed ZeRO stages 1 and 2: the optimizer state is sharded over the processes.

Weights are not sharded. Checkpoints have the same form as with any other strategy, so that a run
can resume with another one.
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
    """Return whether accelerate uses DeepSpeed, as with `launch=deepspeed`."""
    return os.environ.get("ACCELERATE_USE_DEEPSPEED", "").lower() == "true"


def configure(settings: TrainingConfig, device: torch.device) -> None:
    """Check the settings, and keep DeepSpeed from compiling its collectives for CPUs."""
    if "ACCELERATE_DEEPSPEED_CONFIG_FILE" in os.environ:
        raise TrainingError(
            "launch=deepspeed configures DeepSpeed itself. Remove deepspeed_config_file from the "
            "configuration of accelerate."
        )
    if settings.optimizer is not Optimizer.adamw:
        raise TrainingError(
            "training.optimizer must be adamw with launch=deepspeed, got "
            f"{settings.optimizer.value}. Set training.optimizer=adamw."
        )
    # It would warn about gradient accumulation, which the Trainer does itself.
    logging.getLogger("accelerate.accelerator").setLevel(logging.ERROR)
    if device.type == "cpu":
        import deepspeed.ops

        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def optimizer_state(optimizer: Any) -> dict[int, dict[str, torch.Tensor]]:
    """Gather the optimizer state by parameter number, as an optimizer of one process has it."""
    from deepspeed.utils import lazy_init_hp_params_optimizer_state, safe_get_full_optimizer_state

    state = optimizer.optimizer.state
    step = next(iter(state.values()))["step"]
    for weights, shard in _param_groups(optimizer):
        # DeepSpeed does this after the step of its first group, when others have no state yet.
        lazy_init_hp_params_optimizer_state(weights, shard, state)
    return {
        number: {"step": step, **{m: safe_get_full_optimizer_state(p, m) for m in _ADAM_MOMENTS}}
        for number, p in enumerate(_trainable_parameters(optimizer))
    }


def load_optimizer_state(
    optimizer: Any, saved_state: Mapping[int, Mapping[str, torch.Tensor]]
) -> None:
    """Load this process's shard of a saved state, and of the current weights."""
    optimizer.refresh_fp32_params()
    numbers = {weight: number for number, weight in enumerate(_trainable_parameters(optimizer))}
    for weights, shard in _param_groups(optimizer):
        state = {moment: torch.zeros_like(shard) for moment in _ADAM_MOMENTS}
        for weight in weights:
            if (mapping := weight._hp_mapping) is None:
                continue  # in the shards of other processes
            source, target = mapping.lp_fragment_address, mapping.hp_fragment_address
            for moment, values in state.items():
                saved = saved_state[numbers[weight]][moment].flatten()
                fragment = saved.narrow(0, source.start, source.numel)
                values.narrow(0, target.start, target.numel).copy_(fragment)
        step = saved_state[numbers[weights[0]]]["step"]
        optimizer.optimizer.state[shard] = {"step": step.clone(), **state}


def _param_groups(optimizer: Any) -> Iterator[tuple[list[Any], torch.Tensor]]:
    """Pair the parameters of each group with this process's flat shard of them."""
    return zip(optimizer.bit16_groups, optimizer.single_partition_of_fp32_groups, strict=True)


def _trainable_parameters(optimizer: Any) -> Iterator[torch.nn.Parameter]:
    """Yield the parameters in the order in which an optimizer of one process numbers them."""
    for weights, _ in _param_groups(optimizer):
        yield from weights
