"""Export of a trained model: merged weights for plain transformers, and ONNX graphs."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from palitune.errors import ModelError
from palitune.models.adapters import merging
from palitune.models.adapters.checkpoint import adapts_projector, save_adapter
from palitune.models.adapters.combination import AdapterCombination, RankReduction
from palitune.models.adapters.config import VLLM_PROJECTOR_NOTE
from palitune.models.config import Device, Dtype, ModelConfig, Network
from palitune.models.devices import resolve_device
from palitune.models.hub_files import count_parameters, fetch_model
from palitune.models.loading import TORCH_DTYPES
from palitune.models.quantization import ExportQuantization

MEMORY_PER_WEIGHT_BYTE = 1.3
"""Memory for an export in relation to the bytes of its weights; the tests keep it below this."""

_logger = logging.getLogger(__name__)


def export_settings(model: ModelConfig, requested: Dtype) -> ModelConfig:
    """Return the settings with which the base is loaded for an export.

    The dtype is that of the exported weights. The device is the CPU if the GPU has too little free
    memory. Raises ModelError if model.device=cuda requires that GPU.
    """
    dtype = merging.export_dtype(model, requested)
    settings = replace(model, dtype=next(name for name, d in TORCH_DTYPES.items() if d == dtype))
    device = resolve_device(model)
    if device.type != "cuda":
        return settings
    weights = count_parameters(fetch_model(model, weights=True)) * dtype.itemsize
    needed, free = MEMORY_PER_WEIGHT_BYTE * weights, torch.cuda.mem_get_info(device)[0]
    if needed <= free:
        return settings
    sizes = f"the export needs about {needed / 2**30:.1f} GiB, the GPU has {free / 2**30:.1f} free"
    if model.device is Device.cuda:
        raise ModelError(f"model.device=cuda: {sizes}. Set model.device=cpu.")
    _logger.warning("%s, so it runs on the CPU.", sizes)
    return replace(settings, device=Device.cpu)


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


def save_combination(
    network: Network, combination: AdapterCombination, model: ModelConfig, folder: Path
) -> RankReduction | None:
    """Save a combined or reduced adapter as one, and return how its rank was reduced.

    An adapter that is merged as it was trained is not saved again.

    Args:
        network: Base model with the combined adapter.
        combination: The adapters.
        model: Settings of the base model.
        folder: Output folder.
    """
    if combination.is_one_unchanged:
        return None
    save_adapter(network, folder, model)
    reduction: RankReduction | None = network.rank_reduction
    return reduction


def serving_notes(combination: AdapterCombination, adapter: Path) -> list[str]:
    """Return sentences about the adapter of an export.

    Args:
        combination: The merged adapters.
        adapter: Folder of `save_combination`.
    """
    saved = [] if combination.is_one_unchanged else [f"the adapter without its base: {adapter}"]
    on_projector = any(map(adapts_projector, combination.paths))
    return saved + [VLLM_PROJECTOR_NOTE] * on_projector
