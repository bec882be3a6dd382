"""Export of a trained model: merged weights for plain transformers, and ONNX graphs."""

from pathlib import Path
from typing import Any

from palitune.export import onnx_language, onnx_vision
from palitune.models.adapters import merging
from palitune.models.config import Dtype, ModelConfig, Network
from palitune.models.quantization import ExportQuantization


def export_merged(
    network: Network,
    processor: Any,
    model: ModelConfig,
    folder: Path,
    *,
    dtype: Dtype,
    quantize: ExportQuantization,
) -> None:
    """Merge the adapter of a network, which is used up, and write what plain transformers reads."""

    stored = merging.export_dtype(model, dtype)
    merging.export(network, processor, folder, stored, quantize)


def export_onnx(folder: Path) -> Path:
    """Write an exported folder's model as `onnx/vision.onnx` and `onnx/language.onnx`, checked."""

    made = folder / "onnx"
    model = merging.load_with_transformers(folder, attn_implementation="eager").float()
    onnx_vision.export_vision(model, made / "vision.onnx")
    onnx_language.export_language(model, made / "language.onnx")
    return made
