"""What a training step keeps in memory, and what it would rather compute again, move or compile."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from transformers import TrainerCallback
from transformers.modeling_layers import GradientCheckpointingLayer

from palitune.errors import TrainingError
from palitune.models.paligemma import PaliGemmaPrefixModel
from palitune.training.config import Optimizer, TrainingConfig


def check_device(settings: TrainingConfig, device: torch.device) -> None:
    """Refuse, in one sentence, what only a CUDA GPU can do."""
    if device.type == "cuda":
        return
    for asked, name, instead in (
        (settings.optimizer is Optimizer.paged_adamw_8bit, "optimizer=paged_adamw_8bit", "adamw"),
        (settings.activation_offloading, "activation_offloading=true", "false"),
        (settings.compile, "compile=true", "false"),
    ):
        if asked:
            raise TrainingError(
                f"training.{name} needs a CUDA GPU and this run is on the {device.type}; use "
                f"training.{name.split('=')[0]}={instead}"
            )


def activation_offload_context(settings: TrainingConfig) -> AbstractContextManager[Any]:
    """Where a forward pass under this keeps what its backward pass will need."""
    if settings.activation_offloading:
        return torch.autograd.graph.save_on_cpu(pin_memory=torch.cuda.is_available())
    return nullcontext()


class ActivationMemoryCallback(TrainerCallback):  # type: ignore[misc]
    """Have a share of the language layers recomputed, evenly spaced, and the layers compiled."""

    def __init__(self, settings: TrainingConfig) -> None:
        self.settings = settings

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        layers = list(language_layers(kwargs["model"]))
        if self.settings.gradient_checkpointing:
            share = self.settings.gradient_checkpointing_ratio
            for number, layer in enumerate(layers):
                layer.gradient_checkpointing = int((number + 1) * share) > int(number * share)
        if self.settings.compile:
            for layer in layers:
                layer.compile(dynamic=True)


def language_layers(network: Any) -> Iterator[GradientCheckpointingLayer]:
    """The decoder layers of a network, wrapped as it may be."""
    body = next(module for module in network.modules() if isinstance(module, PaliGemmaPrefixModel))
    yield from body.language_model.layers
