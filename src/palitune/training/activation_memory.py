"""Gradient checkpointing, activation offloading and torch.compile."""

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
    """Raise TrainingError for settings that require a CUDA GPU if the device is another one."""
    if device.type == "cuda":
        return
    for is_set, key, value, alternative in (
        (
            settings.optimizer is Optimizer.paged_adamw_8bit,
            "optimizer",
            "paged_adamw_8bit",
            "adamw",
        ),
        (settings.activation_offloading, "activation_offloading", "true", "false"),
        (settings.compile, "compile", "true", "false"),
    ):
        if is_set:
            raise TrainingError(
                f"training.{key}={value} requires a CUDA GPU, but this run uses the {device.type}. "
                f"Set training.{key}={alternative}."
            )


def activation_offload_context(settings: TrainingConfig) -> AbstractContextManager[Any]:
    """Return a context for the forward pass that offloads saved activations if so configured."""
    if settings.activation_offloading:
        return torch.autograd.graph.save_on_cpu(pin_memory=torch.cuda.is_available())
    return nullcontext()


class ActivationMemoryCallback(TrainerCallback):  # type: ignore[misc]
    """Apply gradient checkpointing to a share of the language layers, and compile them."""

    def __init__(self, settings: TrainingConfig) -> None:
        self.settings = settings

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        layers = list(language_layers(kwargs["model"]))
        if self.settings.gradient_checkpointing:
            ratio = self.settings.gradient_checkpointing_ratio
            for index, layer in enumerate(layers):
                layer.gradient_checkpointing = int((index + 1) * ratio) > int(index * ratio)
        if self.settings.compile:
            for layer in layers:
                layer.compile(dynamic=True)


def language_layers(network: Any) -> Iterator[GradientCheckpointingLayer]:
    """Yield the decoder layers of a network inside any wrappers."""
    body = next(module for module in network.modules() if isinstance(module, PaliGemmaPrefixModel))
    yield from body.language_model.layers
