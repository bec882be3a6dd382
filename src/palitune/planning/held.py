"""What is in memory between two steps: weights, adapter, optimizer state, the batch."""

from dataclasses import dataclass

from palitune.planning.activations import FLOAT, Batch, Precision
from palitune.planning.on_paper import Paper
from palitune.training.settings import Optimizer, Training

Parts = dict[str, int]
"""Bytes by what they are for."""

SMALLEST_8BIT = 4096
"""bitsandbytes keeps 32-bit states of smaller tensors."""


@dataclass(frozen=True)
class Setup:
    """A training on one device, as far as memory depends on it."""

    paper: Paper
    precision: Precision
    training: Training
    device: str
    """cpu | cuda."""
    accumulated: bool
    """Whether gradients of earlier micro-batches are there."""


def held(setup: Setup, batch: Batch) -> Parts:
    """What is there before a step.

    Batch: ids, types, mask and labels, rows x tokens int64 each; pixels uint8, or with a vision
    cache its entries.
    """
    paper, p = setup.paper, setup.precision
    pixels = 3 * paper.side**2
    if setup.training.vision_cache is not None:
        pixels = cache_entry(paper, p.bytes)
    return {
        "base weights": base_weights(paper, p),
        "adapter": 0 if is_full(paper) else FLOAT * sum(size for _, size in paper.trained),
        "optimizer state": optimizer_state(setup),
        "batch": 4 * 8 * batch.rows * batch.tokens + batch.images * pixels,
    }


def cache_entry(paper: Paper, e: int) -> int:
    """An entry of the vision cache: patches x width of the tower."""
    return paper.patches * paper.vision.width * e


def base_weights(paper: Paper, p: Precision) -> int:
    """Every parameter of the base once, the head being the embeddings.

    4 bits: half a byte of each weight of the language model's linear layers, a byte of scale per
    64, and 4 per 256 scales. 8 bits: a byte, and 4 per output.
    """
    everything = sum(paper.parameters.values()) * p.bytes
    if p.bits is None:
        return everything
    layers = paper.language_linears
    weights = sum(one.inputs * one.outputs for one in layers)
    if p.bits == 4:
        stored = weights // 2 + weights // 64 + weights // 64 // 256 * 4
    else:
        stored = weights + FLOAT * sum(one.outputs for one in layers)
    return everything - weights * p.bytes + stored


def optimizer_state(setup: Setup) -> int:
    """Two averages of every trained number: float32, or 8 bits with 4 bytes per 256."""
    sizes = [size for _, size in setup.paper.trained]
    if setup.training.optimizer is Optimizer.adamw:
        return 2 * trained_bytes(setup) * sum(sizes)
    return sum(2 * (size + size // 64 if size >= SMALLEST_8BIT else 4 * size) for size in sizes)


def trained_bytes(setup: Setup) -> int:
    """Bytes of a trained number: adapters are float32 whatever the base is."""
    return setup.precision.bytes if is_full(setup.paper) else FLOAT


def is_full(paper: Paper) -> bool:
    return not any(one.rank for one in paper.linears)
