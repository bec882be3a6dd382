"""Checkpoints of random weights with the sizes of the released models.

The benchmark of a GPU needs no licence and no download: time and memory do not depend on the values
of the weights. A checkpoint is written tensor by tensor in bfloat16, so that the 28B needs no more
main memory than its largest tensor.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from palitune.planning.model_shapes import released_config

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from support.tiny_models import build_processor

SHARD_BYTES = 4 << 30
TINY = "tiny"
"""Size of a toy model that any CPU runs, for a trial of the benchmark itself."""
_TINY_FIELDS: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
}
_TINY_VOCABULARY = 2048


@dataclass(frozen=True)
class CheckpointSize:
    """Family, size and resolution of a released model, for example paligemma2, 3b, 448."""

    family: str
    size: str
    resolution: int

    @property
    def name(self) -> str:
        return f"{self.family}-{self.size}-{self.resolution}"


def write_random_checkpoint(checkpoint: CheckpointSize, folder: Path) -> Path:
    """Write config, weights and processor, unless they are there. Return the checkpoint's folder.

    Raises:
        OSError: The disk is full.
    """
    target = folder / checkpoint.name
    if (target / "model.safetensors.index.json").exists():
        return target
    target.mkdir(parents=True, exist_ok=True)
    processor = build_processor(checkpoint.resolution)
    config = _model_config(checkpoint, processor)
    config.save_pretrained(target)
    processor.save_pretrained(target)
    _write_weights(config, target)
    return target


def _model_config(checkpoint: CheckpointSize, processor: Any) -> Any:
    tiny = checkpoint.size == TINY
    config = released_config(
        checkpoint.family, "3b" if tiny else checkpoint.size, checkpoint.resolution
    )
    tokenizer = processor.tokenizer
    for part in (config, config.text_config):
        part.pad_token_id = tokenizer.pad_token_id
        part.bos_token_id = tokenizer.bos_token_id
        part.eos_token_id = tokenizer.eos_token_id
    config.image_token_id = processor.image_token_id
    if tiny:
        for name, value in _TINY_FIELDS.items():
            setattr(config.text_config, name, value)
        if layer_types := getattr(config.text_config, "layer_types", None):
            config.text_config.layer_types = layer_types[: _TINY_FIELDS["num_hidden_layers"]]
        config.text_config.vocab_size = _TINY_VOCABULARY
        config.vision_config.hidden_size = 64
        config.vision_config.intermediate_size = 128
        config.vision_config.num_hidden_layers = 2
        config.vision_config.num_attention_heads = 4
        config.vision_config.projection_dim = config.projection_dim = 64
    return config


def _write_weights(config: Any, folder: Path) -> None:
    index: dict[str, str] = {}
    for number, shard in enumerate(_shards(_random_tensors(config))):
        name = f"model-{number:05d}.safetensors"
        save_file(shard, folder / name, metadata={"format": "pt"})
        index |= dict.fromkeys(shard, name)
    text = json.dumps({"metadata": {}, "weight_map": index})
    (folder / "model.safetensors.index.json").write_text(text, encoding="utf-8")


def _random_tensors(config: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield every saved tensor; matrices are scaled by fan-in, so that activations stay finite."""
    from transformers import PaliGemmaForConditionalGeneration

    with torch.device("meta"):
        model = PaliGemmaForConditionalGeneration(config)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    for name, weight in model.named_parameters():  # tied weights come once
        values = torch.zeros(weight.shape, dtype=torch.bfloat16, device=device)
        if weight.dim() > 1:
            values.normal_(0, math.sqrt(1 / weight[0].numel()))
        elif "vision_tower" in name and name.endswith("weight"):
            values.fill_(1)  # a LayerNorm; Gemma's norms scale by 1 + weight
        yield name, values.cpu()


def _shards(tensors: Iterator[tuple[str, torch.Tensor]]) -> Iterator[dict[str, torch.Tensor]]:
    shard: dict[str, torch.Tensor] = {}
    num_bytes = 0
    for name, tensor in tensors:
        shard[name] = tensor
        num_bytes += tensor.numel() * tensor.element_size()
        if num_bytes >= SHARD_BYTES:
            yield shard
            shard, num_bytes = {}, 0
    if shard:
        yield shard
