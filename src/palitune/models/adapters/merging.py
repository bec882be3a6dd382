"""Merging of adapters into their base, and export to folders that plain transformers loads.

An adapter is merged in float32 into unquantized weights, because rounding to 4 bits would lose most
of it.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import (
    AutoModelForImageTextToText,
    GenerationConfig,
    PaliGemmaForConditionalGeneration,
)

from palitune.errors import ModelError
from palitune.models.adapters.peft_layers import adapted_modules
from palitune.models.config import Dtype, ModelConfig, Network
from palitune.models.devices import full_float32_precision
from palitune.models.hub_files import family, fetch_model, read_config
from palitune.models.loading import TORCH_DTYPES
from palitune.models.quantization import ExportQuantization


def export_dtype(model: ModelConfig, requested: Dtype) -> torch.dtype:
    """Return the dtype of exported weights; auto: that of the base model's files."""
    config = read_config(fetch_model(model, weights=False))
    dtype = TORCH_DTYPES.get(requested) or config.dtype or torch.float32
    if dtype == torch.float16 and family(config) == "paligemma2":
        raise ModelError("dtype must be bf16 or fp32 for Gemma 2, which overflows in fp16.")
    return dtype


def merge_adapter(network: Network) -> Network:
    """Merge a network's LoRA into its base, in place; a network without LoRA is returned as it is.

    A head with LoRA first gets a copy of the weight that it shares with the embeddings, which would
    change otherwise.
    """
    if not hasattr(network, "merge_and_unload"):
        return network
    base = network.get_base_model()
    if "lm_head" in adapted_modules(network):
        head = base.lm_head.base_layer
        head.weight = torch.nn.Parameter(head.weight.detach().clone(), requires_grad=False)
        base.config.tie_word_embeddings = base.config.text_config.tie_word_embeddings = False
    with full_float32_precision():
        return network.merge_and_unload(progressbar=False)


def export(
    network: Network, processor: Any, folder: Path, dtype: torch.dtype, quantize: ExportQuantization
) -> None:
    """Merge the adapter of a network, in place, and write a folder that plain transformers loads.

    Args:
        network: Unquantized network, with or without an adapter.
        processor: Processor of the base model.
        folder: Output folder.
        dtype: Dtype of the weights.
        quantize: Quantization of the language model.
    """
    if quantize is ExportQuantization.none:
        save_pretrained(merge_adapter(network), processor, folder, dtype)
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=".unquantized-") as unquantized:
        save_pretrained(merge_adapter(network), processor, Path(unquantized), dtype)
        quantized = load_with_transformers(
            Path(unquantized), quantization_config=quantize.quantization_config(dtype)
        )
        quantized.save_pretrained(folder)
        processor.save_pretrained(folder)


def save_pretrained(network: Network, processor: Any, folder: Path, dtype: torch.dtype) -> None:
    """Write a network without adapters and its processor in the format of plain transformers."""
    folder.mkdir(parents=True, exist_ok=True)
    network.config.dtype = dtype
    with torch.device("meta"):
        stock = PaliGemmaForConditionalGeneration(network.config)
    stock.load_state_dict(network.to(dtype).state_dict(), assign=True)
    stock.tie_weights()
    tokenizer = processor.tokenizer
    stock.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        do_sample=False,
    )
    stock.save_pretrained(folder)
    processor.save_pretrained(folder)


def load_with_transformers(folder: Path, device: Any = "cpu", **model_kwargs: Any) -> Any:
    """Load an exported folder with plain transformers."""
    return AutoModelForImageTextToText.from_pretrained(
        folder, device_map={"": device}, trust_remote_code=False, **model_kwargs
    ).eval()
