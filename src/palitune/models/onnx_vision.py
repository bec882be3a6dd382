"""Vision tower and projector of an exported folder as ONNX, checked against themselves."""

import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from palitune.models.checkpoints import ModelError
from palitune.models.merging import load_plain

FILE = Path("onnx") / "vision.onnx"
TOLERANCE = 1e-3
"""Largest difference of a feature, in their standard deviations; 4e-6 on two layers."""


class _Seen(nn.Module):
    """pixel_values (images, 3, height, width) in [-1, 1] -> features (images, patches, hidden)."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.tower, self.projector = model.vision_tower, model.multi_modal_projector

    def forward(self, pixel_values: Tensor) -> Tensor:
        features: Tensor = self.projector(self.tower(pixel_values).last_hidden_state)
        return features


def write_vision(folder: Path) -> Path:
    """Write `onnx/vision.onnx` in float32, for any number of images, into an exported folder.

    The language model stays with transformers: with its cache and its mask over prompt and answer
    it is no single graph. Raises ModelError where ONNX Runtime computes other features.
    """
    model = load_plain(folder)
    seen = _Seen(model.model).float().eval()
    side = model.config.vision_config.image_size
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1
    file = folder / FILE
    file.parent.mkdir(exist_ok=True)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it lists what it does not need
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            seen,
            (images,),
            input_names=["pixel_values"],
            output_names=["image_features"],
            dynamic_shapes={"pixel_values": {0: torch.export.Dim("images")}},
            dynamo=True,
            verbose=False,
        )
        assert program
        program.save(file)
        _check(file, images[:1], seen(images[:1]))
    return file


def _check(file: Path, images: Tensor, expected: Tensor) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"pixel_values": images.numpy()})
    off = float((torch.from_numpy(found) - expected).abs().max() / expected.std())
    if not off <= TOLERANCE:
        raise ModelError(
            f"{file} gives features up to {off:.2g} standard deviations from the model's; do not "
            "use it, and try another version of onnxruntime or torch"
        )
