"""Merging of adapters into their base, and export to folders that plain transformers loads.

An adapter is merged in float32 into unquantized weights, because rounding to 4 bits would lose most
of it. Memory stays near that of the weights: they are merged in place, layer by layer.
"""

import copy
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from peft import PeftModel
from safetensors.torch import save_file
from torch import Tensor
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
from palitune.models.released_names import released_tensor

WEIGHTS_PATTERN = "model{suffix}.safetensors"
ROWS_PER_BLOCK = 4096


def export_dtype(model: ModelConfig, requested: Dtype) -> torch.dtype:
    """Return the dtype of exported weights; auto: that of the base model's files."""
    config = read_config(fetch_model(model, weights=False))
    dtype = TORCH_DTYPES.get(requested) or config.dtype or torch.float32
    if dtype == torch.float16 and family(config) == "paligemma2":
        raise ModelError("dtype must be bf16 or fp32 for Gemma 2, which overflows in fp16.")
    return dtype


@torch.no_grad()
def merge_adapter(network: Network) -> Network:
    """Merge a network's LoRA into its base, in place; a network without LoRA is returned as it is.

    Each weight is computed in float32 and rounded once to its dtype. A head with LoRA first gets a
    copy of the weight that it shares with the embeddings, which would change otherwise.
    """
    if not isinstance(network, PeftModel):
        return network
    base = network.get_base_model()
    if "lm_head" in adapted_modules(network):
        head = base.lm_head.base_layer
        head.weight = torch.nn.Parameter(head.weight.detach().clone(), requires_grad=False)
        base.config.tie_word_embeddings = base.config.text_config.tie_word_embeddings = False
    with full_float32_precision():
        for layer in network.modules():
            if hasattr(layer, "lora_A"):
                _merge_layer(layer)
    return network.unload()


def _merge_layer(layer: Any) -> None:
    """Merge LoRA or DoRA in blocks of rows, which bounds the memory for float32."""
    weight = layer.get_base_layer().weight
    [adapter] = layer.active_adapters
    lora_a = layer.lora_A[adapter].weight.float()
    lora_b = layer.lora_B[adapter].weight.float() * layer.scaling[adapter]
    is_dora = adapter in layer.lora_magnitude_vector
    for start in range(0, len(weight), ROWS_PER_BLOCK):
        rows = slice(start, start + ROWS_PER_BLOCK)
        merged = weight[rows].float() + lora_b[rows] @ lora_a
        if is_dora:
            magnitude = layer.lora_magnitude_vector[adapter].weight[rows].float()
            merged *= (magnitude / merged.norm(dim=1)).unsqueeze(1)
        weight[rows] = merged


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
        merged = merge_adapter(network)
        save_pretrained(merged, processor, Path(unquantized), dtype)
        merged.to("meta")  # frees the weights, which the caller still refers to
        quantized = load_with_transformers(
            Path(unquantized), quantization_config=quantize.quantization_config(dtype)
        )
        quantized.save_pretrained(folder)
        _save_processor(processor, folder)


def save_pretrained(network: Network, processor: Any, folder: Path, dtype: torch.dtype) -> None:
    """Write a network without adapters and its processor in the format of plain transformers."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = network.to(dtype).state_dict()
    if network.lm_head.weight is network.get_input_embeddings().weight:
        del tensors["lm_head.weight"]
    save_tensors({released_tensor(name): tensor for name, tensor in tensors.items()}, folder)
    config = copy.deepcopy(network.config)
    config.architectures, config.dtype = [PaliGemmaForConditionalGeneration.__name__], dtype
    config.save_pretrained(folder)
    _save_processor(processor, folder)


def save_tensors(tensors: dict[str, Tensor], folder: Path) -> None:
    """Write tensors as model.safetensors or, if they are large, in numbered files with an index."""
    split = split_torch_state_dict_into_shards(tensors, filename_pattern=WEIGHTS_PATTERN)
    for file, names in split.filename_to_tensors.items():
        part = {name: tensors[name].cpu().contiguous() for name in names}
        save_file(part, folder / file, metadata={"format": "pt"})
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        text = json.dumps(index, indent=2, sort_keys=True)
        (folder / "model.safetensors.index.json").write_text(text + "\n", encoding="utf-8")


def _save_processor(processor: Any, folder: Path) -> None:
    tokenizer = processor.tokenizer
    generation = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        do_sample=False,
    )
    generation.save_pretrained(folder)
    processor.save_pretrained(folder)
    _make_tokenizer_portable(folder / "tokenizer_config.json")


def _make_tokenizer_portable(file: Path) -> None:
    """Replace entries of a tokenizer's configuration that transformers 4 cannot read."""
    settings = json.loads(file.read_text(encoding="utf-8"))
    if settings.get("tokenizer_class") == "TokenizersBackend":
        settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    if isinstance(settings.get("extra_special_tokens"), list):
        settings["additional_special_tokens"] = settings.pop("extra_special_tokens")
    file.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def load_with_transformers(folder: Path, device: Any = "cpu", **model_kwargs: Any) -> Any:
    """Load an exported folder with plain transformers."""
    return AutoModelForImageTextToText.from_pretrained(
        folder, device_map={"": device}, trust_remote_code=False, **model_kwargs
    ).eval()
