"""Floating-point operations of a step, and the time they take at a share of a device's peak."""

from collections.abc import Iterable
from dataclasses import dataclass

from palitune.planning.activations import Batch, of_one_layer
from palitune.planning.held import Setup
from palitune.planning.memory import is_checkpointed
from palitune.planning.on_paper import Linear, Paper, Tower
from palitune.planning.workload import Workload


@dataclass(frozen=True)
class Gpu:
    """The device that is planned for."""

    memory: float
    """GiB."""
    tflops: float
    """Peak of dense matrix products in the network's precision."""
    mfu: float
    """Share of that peak which a step reaches."""
    bandwidth: float
    """TB/s at which weights are read and written."""


@dataclass(frozen=True)
class Speed:
    """Of a training, evaluations left out."""

    step_tflop: float
    """Operations of an optimizer step."""
    step_seconds: float
    samples_per_second: float
    steps: int | None
    hours: float | None


def speed(setup: Setup, workload: Workload, gpu: Gpu) -> Speed:
    """Predict the time of an optimizer step and of the run."""
    settings, paper = setup.training, setup.paper
    micro_batches = settings.batch_size // settings.micro_batch_size
    batch = workload.usual(paper, settings.micro_batch_size)
    operations = micro_batches * flops(setup, batch)
    per_second = gpu.mfu * gpu.tflops * 1e12
    moved = micro_batches * dequantization(setup) / (gpu.bandwidth * 1e12)
    seconds = operations / per_second + moved
    steps = workload.steps(settings)
    cached = 0.0
    if settings.vision_cache is not None:
        cached = (workload.images or 0) * vision_flops(paper, 1) / per_second
    hours = None if steps is None else (steps * seconds + cached) / 3600
    return Speed(operations / 1e12, seconds, settings.batch_size / seconds, steps, hours)


def flops(setup: Setup, batch: Batch) -> float:
    """Operations of a micro-batch, forward and backward.

    Of the last language layer only keys and values are made at all positions, the head works at
    labels alone. Recomputed layers have a second forward pass; attention's backward pass has five
    products of the two that its forward pass has.
    """
    paper, tower = setup.paper, setup.paper.language
    t, count = batch.rows * batch.tokens, tower.layers
    linears = of_one_layer(paper.linears, "language", count)
    keys = 2 * 2 * tower.width * tower.key_heads * tower.head_width
    scores = _scores(tower, t, batch.tokens)
    again = sum(is_checkpointed(setup.training, number, count) for number in range(count))
    total = (count - 1) * (_both_ways(linears, t) + 3.5 * scores)
    total += again * (_forward(linears, t) + scores)
    total += _both_ways(linears, batch.labels) + 2 * keys * (t - batch.labels)
    total += 3.5 * _scores(tower, batch.labels, batch.tokens)
    head = 2 * batch.labels * tower.width * paper.vocabulary
    total += head * (3 if _trains_embeddings(paper) else 2)
    if setup.training.vision_cache is None:
        total += vision_flops(paper, batch.images, backward=paper.trains("vision"))
    projector = [one for one in paper.linears if one.part == "projector"]
    return total + _forward(projector, batch.images * paper.patches)


def vision_flops(paper: Paper, images: int, *, backward: bool = False) -> float:
    """Operations of the vision tower."""
    t, count = images * paper.patches, paper.vision.layers
    linears = of_one_layer(paper.linears, "vision", count)
    scores = _scores(paper.vision, t, paper.patches)
    if backward:
        return count * (_both_ways(linears, t) + 3.5 * scores)
    return count * (_forward(linears, t) + scores)


def dequantization(setup: Setup) -> float:
    """Bytes that a micro-batch moves to expand quantized weights in each of its passes: stored
    ones read, expanded ones written and read.
    """
    if setup.precision.bits is None:
        return 0.0
    weights = sum(one.inputs * one.outputs for one in setup.paper.language_linears)
    passes = 3 if setup.training.gradient_checkpointing else 2
    return passes * weights * (setup.precision.bits / 8 + 2 * setup.precision.bytes)


def _forward(linears: Iterable[Linear], t: int) -> float:
    """A product of (t, inputs) and (inputs, outputs) takes two operations per number of each."""
    return sum(2.0 * t * one.inputs * one.outputs for one in linears)


def _both_ways(linears: list[Linear], t: int) -> float:
    """Backward once more for the input, again for a trained weight; three times for LoRA."""
    trained = _forward([one for one in linears if one.trained], t)
    lora = sum(6.0 * t * one.rank * (one.inputs + one.outputs) for one in linears)
    return 2 * _forward(linears, t) + trained + lora


def _scores(tower: Tower, t: int, keys: int) -> float:
    """Products of t queries with keys, and of weights with values."""
    return 4.0 * t * keys * tower.heads * tower.head_width


def _trains_embeddings(paper: Paper) -> bool:
    return any(part in ("language.rest", "head") for part, _ in paper.trained)
