"""Training and evaluation mode of a network, restored afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def training_mode(network: Any, enabled: bool) -> Iterator[None]:
    """Put a network into training mode or, with `enabled=False`, into evaluation mode."""
    was_training = network.training
    network.train(enabled)
    try:
        yield
    finally:
        network.train(was_training)


@contextmanager
def inference_mode(network: Any) -> Iterator[None]:
    """Put a network into evaluation mode, without gradients."""
    with training_mode(network, False), torch.inference_mode():
        yield
