"""Adapters merged into their base, and folders that plain transformers reads.

An adapter is merged in float32 and into weights that were never quantized: added to 4-bit weights,
most of it would be lost in rounding.
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
from palitune.models.hub_files import family, fetch_model, read_config
from palitune.models.loading import TORCH_DTYPES
from palitune.models.quantization import ExportQuantization


def export_dtype(model: ModelConfig, requested: Dtype) -> torch.dtype:
    """Give the dtype of exported weights; auto: that of the base model's files."""
    config = read_config(fetch_model(model, weights=False))
    dtype = TORCH_DTYPES.get(requested) or config.dtype or torch.float32
    if dtype == torch.float16 and family(config) == "paligemma2":
        raise ModelError("dtype: Gemma 2 overflows in fp16; use bf16 or fp32")
    return dtype


def merge_adapter(network: Network) -> Network:
    """Merge a network's LoRA into its base, in place; what was trained in full is there already.

    LoRA on a head that shares its matrix with the embeddings first gets a matrix of its own, or
    the embeddings would change with it.
    """
    if not hasattr(network, "merge_and_unload"):
        return network
    base = network.get_base_model()
    if "lm_head" in adapted_modules(network):
        shared = base.lm_head.base_layer
        shared.weight = torch.nn.Parameter(shared.weight.detach().clone(), requires_grad=False)
        base.config.tie_word_embeddings = base.config.text_config.tie_word_embeddings = False
    return network.merge_and_unload(progressbar=False)


def export(
    network: Network, processor: Any, folder: Path, dtype: torch.dtype, quantize: ExportQuantization
) -> None:
    """Merge the adapter of a network, which is used up, and write what plain transformers reads."""
    if quantize is ExportQuantization.none:
        save_pretrained(merge_adapter(network), processor, folder, dtype)
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=".unquantized-") as whole:
        save_pretrained(merge_adapter(network), processor, Path(whole), dtype)
        quantized = load_with_transformers(
            Path(whole), quantization_config=quantize.quantization_config(dtype)
        )
        quantized.save_pretrained(folder)
        processor.save_pretrained(folder)


def save_pretrained(network: Network, processor: Any, folder: Path, dtype: torch.dtype) -> None:
    """Write a network without adapters, its processor and its settings as transformers does."""
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
    """Read an exported folder as any user of transformers does."""
    read = AutoModelForImageTextToText.from_pretrained
    return read(folder, device_map={"": device}, trust_remote_code=False, **model_kwargs).eval()
