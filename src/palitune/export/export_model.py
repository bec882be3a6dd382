"""Export of a trained model: merged weights for plain transformers, and ONNX graphs."""

from pathlib import Path
from typing import Any

from palitune.export.onnx_language import export_language
from palitune.export.onnx_vision import export_vision
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
    """Merge the adapter into its base model and write a folder for plain transformers.

    Args:
        network: Model with adapter; changed in place, do not use it afterwards.
        processor: Processor of the model, which is saved with it.
        model: Settings of the base model, which determine the dtype `auto`.
        folder: Output folder.
        dtype: Dtype of the exported weights.
        quantize: Quantization of the exported language model.
    """
    merging.export(network, processor, folder, merging.export_dtype(model, dtype), quantize)


def export_onnx(folder: Path) -> Path:
    """Export the model of a folder to `onnx/vision.onnx` and `onnx/language.onnx`, verified."""
    onnx_folder = folder / "onnx"
    model = merging.load_with_transformers(folder, attn_implementation="eager").float()
    export_vision(model, onnx_folder / "vision.onnx")
    export_language(model, onnx_folder / "language.onnx")
    return onnx_folder
