"""ONNX Runtime sees what the model sees."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from palitune.models import onnx_vision
from palitune.models.checkpoints import ModelError
from palitune.models.merging import load_plain


def test_vision_and_projector_give_the_features_of_any_number_of_images(
    tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny("paligemma2"), tmp_path / "made")
    file = onnx_vision.write_vision(folder)
    assert file == folder / "onnx" / "vision.onnx"
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    images = torch.rand(3, 3, 112, 112) * 2 - 1
    (found,) = session.run(None, {"pixel_values": images.numpy()})
    with torch.no_grad():
        expected = load_plain(folder).model.get_image_features(images).pooler_output
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)
    with pytest.raises(ModelError, match=r"vision.onnx gives features up to \S+ standard deviat"):
        onnx_vision._check(file, images[:1], expected[:1] + 0.1)
