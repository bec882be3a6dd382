"""Measurement of a real training step, to verify the prediction.

The step uses the model of the run, rows as long as its longest row, and random pixels and tokens.
"""

import ctypes
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer

from palitune.errors import TrainingError
from palitune.models.lm_head import IGNORE_INDEX
from palitune.planning.activation_bytes import BatchShape
from palitune.planning.model_shapes import ModelShape
from palitune.planning.static_memory import MemoryContext
from palitune.training.activation_memory import (
    ActivationMemoryCallback,
    activation_offload_context,
    check_device,
)
from palitune.training.arguments import build_training_arguments
from palitune.training.config import TrainingConfig
from palitune.training.loss import count_items, token_weights

_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1
"""Parameters of mallopt in glibc."""


@dataclass(frozen=True)
class CalibrationStep:
    """A measured step of one micro-batch."""

    weights: int
    """Bytes of the network with its adapter."""
    step: int
    """Peak memory of the step, minus the memory before it."""
    seconds: float


def measure_step(network: Any, context: MemoryContext, batch: BatchShape) -> CalibrationStep:
    """Run a step twice and measure the second; the first initializes libraries and optimizer."""
    optimizer = prepare_for_training(network, context.training)
    inputs = random_batch(context.model_shape, batch, network.device)
    with _immediate_free():
        training_step(inputs, network, context.training, optimizer)
        before, started = _reset_peak_memory(network.device), time.perf_counter()
        training_step(inputs, network, context.training, optimizer)
        peak = _peak_memory(network.device)
        seconds = time.perf_counter() - started
    return CalibrationStep(parameter_bytes(network), peak - before, seconds)


def prepare_for_training(network: Any, settings: TrainingConfig) -> torch.optim.Optimizer:
    """Prepare a network as the Trainer does. Return its optimizer."""
    check_device(settings, network.device)
    network.train()
    if settings.gradient_checkpointing:
        network.activation_checkpointing_enable({"use_reentrant": False})
    ActivationMemoryCallback(settings).on_train_begin(None, None, None, model=network)
    args = build_training_arguments(settings, 0, Path(), do_eval=False, device=network.device)
    optimizer_class, options = Trainer.get_optimizer_cls_and_kwargs(args, network)
    optimizer: torch.optim.Optimizer = optimizer_class(_trained_parameters(network), **options)
    return optimizer


def _trained_parameters(network: Any) -> list[torch.nn.Parameter]:
    return [weight for weight in network.parameters() if weight.requires_grad]


def training_step(
    inputs: dict[str, torch.Tensor],
    network: Any,
    settings: TrainingConfig,
    optimizer: torch.optim.Optimizer,
) -> None:
    """Run an optimizer step as `palitune.training.trainer` does.

    Args:
        inputs: A batch of `random_batch`.
        network: The network in training mode.
        settings: Training settings.
        optimizer: Optimizer of the trained parameters.
    """
    labels, types = inputs["labels"], inputs["token_type_ids"]
    with activation_offload_context(settings, network):
        losses = network(**inputs, label_smoothing=settings.label_smoothing).loss
        weights = token_weights(labels, settings.loss_reduction, types)
        loss = (losses * weights).sum() / count_items(labels, settings.loss_reduction, types)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(_trained_parameters(network), settings.max_grad_norm)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def random_batch(
    model_shape: ModelShape, batch: BatchShape, device: torch.device
) -> dict[str, torch.Tensor]:
    """Return a random batch in the format of `palitune.data.collator.Batch`."""
    ids = torch.randint(0, model_shape.vocab_size, (batch.batch_size, batch.seq_len))
    ids[ids == model_shape.image_token_id] = 0
    num_image_tokens = batch.num_images // batch.batch_size * model_shape.num_patches
    ids[:, :num_image_tokens] = model_shape.image_token_id
    types = torch.zeros_like(ids)
    types[:, -(batch.num_labels // batch.batch_size) :] = 1
    shape = (batch.num_images, 3, model_shape.image_size, model_shape.image_size)
    tensors = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "token_type_ids": types,
        "labels": ids.masked_fill(types == 0, IGNORE_INDEX),
        "pixel_values": torch.randint(0, 256, shape, dtype=torch.uint8),
    }
    return {name: tensor.to(device) for name, tensor in tensors.items()}


def parameter_bytes(network: Any) -> int:
    """Return the bytes of all parameters, with the scales of quantized ones."""
    total = 0
    for weight in network.parameters():
        tensors = [weight, getattr(weight, "SCB", None)]
        if state := getattr(weight, "quant_state", None):
            tensors += [state.absmax, state.state2.absmax]
        total += sum(
            tensor.numel() * tensor.element_size() for tensor in tensors if tensor is not None
        )
    return total


@contextmanager
def _immediate_free() -> Iterator[None]:
    """Make glibc return freed memory to the system, so that resident memory is memory in use.

    Other C libraries have no such setting.
    """
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt"):
        yield
        return
    library.mallopt(_MMAP_THRESHOLD, 32 << 10)
    library.malloc_trim(0)
    try:
        yield
    finally:  # the maximum that glibc's dynamic thresholds reach
        library.mallopt(_MMAP_THRESHOLD, 32 << 20)
        library.mallopt(_TRIM_THRESHOLD, 64 << 20)


def _reset_peak_memory(device: torch.device) -> int:
    """Reset the peak memory counter and return the memory in use."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError as error:
        raise TrainingError(
            "calibrate=true requires Linux: peak memory is read from /proc/self/status. Set "
            "calibrate=false."
        ) from error
    return _proc_status_bytes("VmRSS")


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated()
    return _proc_status_bytes("VmHWM")


def _proc_status_bytes(field: str) -> int:
    status = Path("/proc/self/status").read_text().splitlines()
    [line] = [line for line in status if line.startswith(f"{field}:")]
    return int(line.split()[1]) * 1024
