"""Gradient checkpointing, activation offloading and torch.compile."""

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from transformers import TrainerCallback
from transformers.modeling_layers import GradientCheckpointingLayer

from palitune.errors import TrainingError
from palitune.models import decoder_layers
from palitune.models.paligemma import PaliGemmaPrefixModel
from palitune.training.config import Optimizer, TrainingConfig

_log = logging.getLogger(__name__)


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
        if should_compile(self.settings, kwargs["model"].device):
            decoder_layers.compile_layers(_language_model(kwargs["model"]))


def should_compile(settings: TrainingConfig, device: torch.device) -> bool:
    """Return whether to compile the language layers; auto: on a GPU where torch.compile works.

    Raises TrainingError if compilation was requested and torch cannot compile here.
    """
    is_requested = settings.compile is True
    if not is_requested and (settings.compile is False or device.type != "cuda"):
        return False
    error = _compilation_error(device)
    if error is None:
        return True
    if is_requested:
        raise TrainingError(
            f"training.compile=true: torch.compile does not work on this {device.type} ({error}). "
            "Set training.compile=false."
        )
    _log.warning("the language layers are not compiled: torch.compile does not work (%s)", error)
    return False


def _compilation_error(device: torch.device) -> str | None:
    """Compile and run one operation; return the first line of an error, or None."""
    try:
        torch.compile(lambda x: 2 * x + 1, dynamic=True)(torch.ones(8, device=device))
    except Exception as error:  # torch, Triton and the C compiler raise errors of any kind
        return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    return None


def language_layers(network: Any) -> Iterator[GradientCheckpointingLayer]:
    """Yield the decoder layers of a network inside any wrappers."""
    yield from _language_model(network).layers


def _language_model(network: Any) -> Any:
    body = next(module for module in network.modules() if isinstance(module, PaliGemmaPrefixModel))
    return body.language_model
