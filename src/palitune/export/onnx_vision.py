"""Vision tower and projector of an exported folder as ONNX."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from palitune.export import onnx_session


class _VisionEncoder(nn.Module):
    """pixel_values (images, 3, height, width) in [-1, 1] -> features (images, patches, hidden)."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.tower, self.projector = model.model.vision_tower, model.model.multi_modal_projector

    def forward(self, pixel_values: Tensor) -> Tensor:
        features: Tensor = self.projector(self.tower(pixel_values).last_hidden_state)
        return features


def export_vision(model: Any, file: Path) -> None:
    """Export vision tower and projector of a float32 model, for any number of images.

    Raises ModelError if ONNX Runtime computes different features.
    """
    encoder = _VisionEncoder(model).eval()
    side = model.config.vision_config.image_size
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1
    axes = {0: "images"}
    session = onnx_session.export_module(
        encoder, file, {"pixel_values": (images, axes)}, {"image_features": axes}
    )
    [features] = onnx_session.run_session(session, [images[:1]])
    with torch.no_grad():
        onnx_session.check_outputs(file, features, encoder(images[:1]))
