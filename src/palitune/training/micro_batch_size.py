"""`training.micro_batch_size=auto`: the largest micro-batch that fits, found by measuring."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from palitune.data.collator import Batch, expand_image_index
from palitune.distributed import collectives
from palitune.models.device_memory import is_out_of_memory, release_memory, total_memory
from palitune.models.modes import training_mode
from palitune.training.activation_memory import activation_offload_context, checkpointed_layers
from palitune.training.config import AUTO, TrainingConfig
from palitune.training.data import TrainingData
from palitune.training.sequence_lengths import count_tokens, evenly_spaced

DEFAULT_MICRO_BATCH_SIZE = 4
"""Largest automatic micro-batch where nothing is measured: a CPU gains nothing from more."""
MAX_COUNTED_EXAMPLES = 2_000
"""Examples, evenly spaced, among which the longest is searched."""
RESERVED_SHARE = 0.05
"""Share of the GPU's memory that a measured step must leave free, for fragmentation."""

_log = logging.getLogger(__name__)


def resolve_micro_batch_size(
    settings: TrainingConfig, network: Any, data: TrainingData, *, measure: bool = True
) -> TrainingConfig:
    """Return the settings with the number of `micro_batch_size=auto`; the global batch is kept.

    Args:
        settings: Settings of the training.
        network: Network with its adapter.
        data: Training set and collator.
        measure: Whether the steps are those of supervised training, which can be measured.

    Raises:
        torch.OutOfMemoryError: A micro-batch of one example does not fit.
    """
    if settings.micro_batch_size != AUTO:
        return settings
    settings = with_default_micro_batch_size(settings)
    if not measure or not _can_measure(network.device):
        return settings
    batch = _longest_row(data)
    size = find_largest(
        _divisors(settings.global_batch_size // collectives.world_size()),
        lambda size: _run_step(network, _repeat_row(batch, size), settings),
    )
    size = _smallest_of_all_ranks(size)
    _log.info("training.micro_batch_size=auto: %d is the largest that fits (measured)", size)
    return replace(settings, micro_batch_size=size)


def with_default_micro_batch_size(settings: TrainingConfig) -> TrainingConfig:
    """Return the settings with `auto` replaced by a divisor of the batch, at most the default."""
    if settings.micro_batch_size != AUTO:
        return settings
    sizes = _divisors(settings.global_batch_size // collectives.world_size())
    size = next(size for size in sizes if size <= DEFAULT_MICRO_BATCH_SIZE)
    return replace(settings, micro_batch_size=size)


def find_largest(sizes: Sequence[int], run: Callable[[int], None]) -> int:
    """Return the first of descending sizes for which `run` does not run out of memory."""
    for size in sizes:
        try:
            run(size)
            return size
        except RuntimeError as error:
            if not is_out_of_memory(error) or size == sizes[-1]:
                raise
        release_memory()  # outside of the handler: the error refers to the tensors of the step
    raise AssertionError("there is at least one size")


def _can_measure(device: torch.device) -> bool:
    """Return whether an allocation beyond the device's memory fails; a host would swap."""
    return device.type == "cuda"


def _divisors(number: int) -> list[int]:
    """Return the divisors of a number, largest first; 1 if it is 0."""
    return [size for size in range(number, 0, -1) if number % size == 0] or [1]


def _longest_row(data: TrainingData) -> Batch:
    examples = data.training_set.examples
    indices = evenly_spaced(len(examples), MAX_COUNTED_EXAMPLES)
    lengths = count_tokens(data.collator, (examples[index] for index in indices))
    longest = indices[lengths.index(max(lengths))]
    return expand_image_index(data.collator.collate_train([data.training_set[longest]]))


def _repeat_row(row: Batch, count: int) -> Batch:
    return {key: torch.cat([value] * count) for key, value in row.items()}


def _run_step(network: Any, batch: Batch, settings: TrainingConfig) -> None:
    """Run two micro-batches with the memory of the optimizer in use; the network is unchanged."""
    inputs = {name: tensor.to(network.device) for name, tensor in batch.items()}
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    reserved = [torch.empty_like(parameter) for parameter in trained for _ in range(2)]
    if network.device.type == "cuda":
        size = int(RESERVED_SHARE * total_memory("cuda"))
        reserved.append(torch.empty(size, dtype=torch.uint8, device=network.device))
    try:
        with training_mode(network, True), checkpointed_layers(network, settings):
            for _ in range(2):  # the gradients of the first are in memory during the second
                with activation_offload_context(settings, network):
                    loss = network(**inputs, label_smoothing=settings.label_smoothing).loss.sum()
                loss.backward()
    finally:
        network.zero_grad(set_to_none=True)


def _smallest_of_all_ranks(size: int) -> int:
    sizes = collectives.gather_to_main(size)
    return collectives.broadcast_from_main(min(sizes, default=size))
