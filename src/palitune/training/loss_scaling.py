"""Loss scaling of a network whose frozen weights are in fp16.

Gradients of activations are in fp16, too, where values below 6e-8 are zero. The loss is multiplied
by a factor, by which the float32 gradients of the adapter are divided before the step.
"""

from typing import Any

import torch


def make_grad_scaler(network: Any) -> torch.amp.GradScaler | None:
    """Return a scaler for a network in fp16; None for one in another dtype."""
    weight = next(network.get_input_embeddings().parameters())
    return torch.amp.GradScaler(weight.device.type) if weight.dtype == torch.float16 else None
