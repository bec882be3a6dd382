"""One real step of a run's own model, measured: is the prediction right?

The model is that of the run, rows are as long as its longest, pixels and words are random.
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

from palitune.data.collator import IGNORED
from palitune.planning.activations import Batch
from palitune.planning.held import Setup
from palitune.planning.on_paper import Paper
from palitune.training.arguments import arguments
from palitune.training.faults import TrainingError
from palitune.training.holding import Layers, check_device, saved_activations
from palitune.training.loss import count_items, token_weights
from palitune.training.settings import Training

_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1
"""Parameters of glibc's mallopt."""


@dataclass(frozen=True)
class Measured:
    """A step of one micro-batch."""

    weights: int
    """Bytes of the network with its adapter."""
    step: int
    """Highest memory during the step over that before it."""
    seconds: float


def measure(network: Any, setup: Setup, batch: Batch) -> Measured:
    """Take the same step twice and measure the second, libraries and optimizer being set up."""
    optimizer = ready(network, setup.training)
    inputs = random_rows(setup.paper, batch, network.device)
    with _freed_at_once():
        step_on(inputs, network, setup.training, optimizer)
        before, started = _start_watching(network.device), time.perf_counter()
        step_on(inputs, network, setup.training, optimizer)
        highest = _highest(network.device)
        seconds = time.perf_counter() - started
    return Measured(stored(network), highest - before, seconds)


def ready(network: Any, settings: Training) -> torch.optim.Optimizer:
    """Prepare a network as the Trainer does, and make its optimizer."""
    check_device(settings, network.device)
    network.train()
    if settings.gradient_checkpointing:
        network.activation_checkpointing_enable({"use_reentrant": False})
    Layers(settings).on_train_begin(None, None, None, model=network)
    told = arguments(settings, 0, Path(), measured=False, device=network.device)
    kind, options = Trainer.get_optimizer_cls_and_kwargs(told, network)
    made: torch.optim.Optimizer = kind(
        [weight for weight in network.parameters() if weight.requires_grad], **options
    )
    return made


def step_on(
    inputs: dict[str, torch.Tensor],
    network: Any,
    settings: Training,
    optimizer: torch.optim.Optimizer,
) -> None:
    """Take a step as `trainer.PrefixTrainer` does."""
    labels, types = inputs["labels"], inputs["token_type_ids"]
    with saved_activations(settings):
        losses = network(**inputs, label_smoothing=settings.label_smoothing).loss
        weights = token_weights(labels, settings.loss_reduction, types)
        loss = (losses * weights).sum() / count_items(labels, settings.loss_reduction, types)
    loss.backward()
    trained = [weight for weight in network.parameters() if weight.requires_grad]
    torch.nn.utils.clip_grad_norm_(trained, settings.max_gradient_norm)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def random_rows(paper: Paper, batch: Batch, device: torch.device) -> dict[str, torch.Tensor]:
    """A batch as the collator makes it: see `data.collator.Batch`."""
    ids = torch.randint(0, paper.vocabulary, (batch.rows, batch.tokens))
    ids[ids == paper.image_token] = 0
    ids[:, : batch.images // batch.rows * paper.patches] = paper.image_token
    types = torch.zeros_like(ids)
    types[:, -(batch.labels // batch.rows) :] = 1
    shape = (batch.images, 3, paper.side, paper.side)
    made = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "token_type_ids": types,
        "labels": ids.masked_fill(types == 0, IGNORED),
        "pixel_values": torch.randint(0, 256, shape, dtype=torch.uint8),
    }
    return {name: tensor.to(device) for name, tensor in made.items()}


def stored(network: Any) -> int:
    """Bytes of all parameters, with the scales of quantized ones."""
    total = 0
    for weight in network.parameters():
        tensors = [weight, getattr(weight, "SCB", None)]
        if state := getattr(weight, "quant_state", None):
            tensors += [state.absmax, state.state2.absmax]
        total += sum(one.numel() * one.element_size() for one in tensors if one is not None)
    return total


@contextmanager
def _freed_at_once() -> Iterator[None]:
    """Have the C library give freed tensors back, so that what is resident is what is in use.

    It keeps freed memory for later otherwise, which counts as resident; glibc alone can be told.
    """
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt"):
        yield
        return
    library.mallopt(_MMAP_THRESHOLD, 32 << 10)
    library.malloc_trim(0)
    try:
        yield
    finally:  # where glibc's own adaptation ends
        library.mallopt(_MMAP_THRESHOLD, 32 << 20)
        library.mallopt(_TRIM_THRESHOLD, 64 << 20)


def _start_watching(device: torch.device) -> int:
    """Forget the highest memory so far; return what is in use."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError as fault:
        raise TrainingError(
            "calibrate: this system does not tell the highest memory of a process (Linux does, in "
            "/proc/self); leave calibrate=false"
        ) from fault
    return _resident("VmRSS")


def _highest(device: torch.device) -> int:
    if device.type == "cuda":
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated()
    return _resident("VmHWM")


def _resident(entry: str) -> int:
    status = Path("/proc/self/status").read_text().splitlines()
    (line,) = (told for told in status if told.startswith(f"{entry}:"))
    return int(line.split()[1]) * 1024
