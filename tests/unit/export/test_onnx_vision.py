"""ONNX Runtime computes the same image features as the model."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from palitune.export.onnx_vision import export_vision
from palitune.models.adapters.merging import load_with_transformers


def test_features_of_any_number_of_images_equal_those_of_the_model(
    tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    model, file = load_with_transformers(tiny("paligemma2")), tmp_path / "onnx" / "vision.onnx"
    export_vision(model, file)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    images = torch.rand(3, 3, 112, 112) * 2 - 1
    [features] = session.run(None, {"pixel_values": images.numpy()})
    with torch.no_grad():
        expected = model.model.get_image_features(images).pooler_output
    np.testing.assert_allclose(features, expected.numpy(), atol=1e-4)
