"""Convert a checkpoint of big_vision (.npz, as on Kaggle) to a folder that transformers reads.

    python scripts/convert/npz.py paligemma2-3b-pt-224.npz paligemma2 --processor FOLDER

FOLDER holds the tokenizer and processor files of a released PaliGemma (tokenizer.json,
tokenizer_config.json, preprocessor_config.json), which the checkpoint lacks. Sizes and resolution
are derived from the arrays; a missing or unknown array, or one of another shape, is an error. Names
and shapes are those of big_vision's models/proj/paligemma and of transformers' conversion scripts.
"""

from __future__ import annotations

import argparse
import math
import sys
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PaliGemmaProcessor,
)

from palitune.codec.npz import read_npz as read_arrays

VISION = "img/Transformer/encoderblock"
ATTENTION = f"{VISION}/MultiHeadDotProductAttention_0"
LAYERS = "llm/layers"
QUERY_SCALARS = {(4608, 46): 144}
"""By width and depth: Gemma 2 27B scales queries by width / heads, others by the head's width."""


class ConversionError(ValueError):
    """A checkpoint that cannot be converted; the message names the array and the remedy."""


@dataclass(frozen=True)
class ModelSizes:
    """Dimensions of a PaliGemma model, derived from its arrays."""

    patch: int
    patches: int
    vision_width: int
    vision_depth: int
    vision_mlp: int
    vision_heads: int
    vocabulary: int
    width: int
    depth: int
    mlp: int
    heads: int
    kv_heads: int
    head_width: int
    gemma2: bool

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Tensor]) -> ModelSizes:
        def shape(name: str, dimensions: int) -> tuple[int, ...]:
            if name not in arrays:
                raise ConversionError(f"{name} is missing; use the complete .npz of a PaliGemma")
            if arrays[name].ndim != dimensions:
                raise ConversionError(
                    f"{name} has {arrays[name].ndim} dimensions, not {dimensions}"
                )
            return tuple(arrays[name].shape)

        patch, _, _, vision_width = shape("img/embedding/kernel", 4)
        vision_depth, _, vision_mlp = shape(f"{VISION}/MlpBlock_0/Dense_0/kernel", 3)
        vocabulary, width = shape("llm/embedder/input_embedding", 2)
        depth, heads, _, head_width = shape(f"{LAYERS}/attn/q_einsum/w", 4)
        return cls(
            patch=patch,
            patches=shape("img/pos_embedding", 3)[1],
            vision_width=vision_width,
            vision_depth=vision_depth,
            vision_mlp=vision_mlp,
            vision_heads=shape(f"{ATTENTION}/query/kernel", 4)[2],
            vocabulary=vocabulary,
            width=width,
            depth=depth,
            mlp=shape(f"{LAYERS}/mlp/gating_einsum", 4)[3],
            heads=heads,
            kv_heads=shape(f"{LAYERS}/attn/kv_einsum/w", 5)[2],
            head_width=head_width,
            gemma2=f"{LAYERS}/post_attention_norm/scale" in arrays,
        )


@dataclass(frozen=True)
class ConversionRule:
    """Expected shape of an array, and its conversion to named tensors."""

    shape: tuple[int, ...]
    convert_array: Callable[[Tensor], dict[str, Tensor]]


def read_npz(file: Path) -> dict[str, Tensor]:
    """Read the arrays by name, without the prefix that some checkpoints have; never a pickle."""
    try:
        return {name.removeprefix("params/"): _tensor(array) for name, array in read_arrays(file)}
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ConversionError(f"it is no .npz of plain arrays ({error})") from error


def _tensor(array: np.ndarray) -> Tensor:
    if array.dtype == np.dtype("V2"):  # bfloat16, which numpy lacks
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def conversion_rules(sizes: ModelSizes) -> dict[str, ConversionRule]:
    """Return the rule of every array of a checkpoint."""
    return {**_vision_rules(sizes), **_language_rules(sizes)}


def _vision_rules(s: ModelSizes) -> dict[str, ConversionRule]:
    tower, layer = "model.vision_tower", "model.vision_tower.encoder.layers.{}"
    wide, depth, per_head = s.vision_width, s.vision_depth, s.vision_width // s.vision_heads
    rules = {
        "img/embedding/kernel": ConversionRule(
            (s.patch, s.patch, 3, wide),
            lambda a: {f"{tower}.embeddings.patch_embedding.weight": a.permute(3, 2, 0, 1)},
        ),
        "img/embedding/bias": _unchanged((wide,), f"{tower}.embeddings.patch_embedding.bias"),
        "img/pos_embedding": ConversionRule(
            (1, s.patches, wide),
            lambda a: {f"{tower}.embeddings.position_embedding.weight": a[0]},
        ),
        "img/head/kernel": ConversionRule(
            (wide, s.width), lambda a: {"model.multi_modal_projector.linear.weight": a.T}
        ),
        "img/head/bias": _unchanged((s.width,), "model.multi_modal_projector.linear.bias"),
    }
    for kind, theirs in (("scale", "weight"), ("bias", "bias")):
        rules[f"img/Transformer/encoder_norm/{kind}"] = _unchanged(
            (wide,), f"{tower}.post_layernorm.{theirs}"
        )
        for number in (0, 1):
            rules[f"{VISION}/LayerNorm_{number}/{kind}"] = _per_layer(
                (depth, wide), f"{layer}.layer_norm{number + 1}.{theirs}"
            )
    for number, (inputs, outputs) in enumerate([(wide, s.vision_mlp), (s.vision_mlp, wide)]):
        ours, theirs = f"{VISION}/MlpBlock_0/Dense_{number}", f"{layer}.mlp.fc{number + 1}"
        rules[f"{ours}/kernel"] = _per_layer(
            (depth, inputs, outputs), f"{theirs}.weight", _transpose
        )
        rules[f"{ours}/bias"] = _per_layer((depth, outputs), f"{theirs}.bias")
    for name, letter in (("query", "q"), ("key", "k"), ("value", "v")):
        theirs = f"{layer}.self_attn.{letter}_proj"
        rules[f"{ATTENTION}/{name}/kernel"] = _per_layer(
            (depth, wide, s.vision_heads, per_head),
            f"{theirs}.weight",
            lambda a: a.reshape(wide, wide).T,
        )
        rules[f"{ATTENTION}/{name}/bias"] = _per_layer(
            (depth, s.vision_heads, per_head), f"{theirs}.bias", torch.flatten
        )
    theirs = f"{layer}.self_attn.out_proj"
    rules[f"{ATTENTION}/out/kernel"] = _per_layer(
        (depth, s.vision_heads, per_head, wide),
        f"{theirs}.weight",
        lambda a: a.reshape(wide, wide).T,
    )
    rules[f"{ATTENTION}/out/bias"] = _per_layer((depth, wide), f"{theirs}.bias")
    return rules


def _language_rules(s: ModelSizes) -> dict[str, ConversionRule]:
    model, layer = "model.language_model", "model.language_model.layers.{}"
    attention, mlp = f"{layer}.self_attn", f"{layer}.mlp"
    norms = {"pre_attention_norm": "input_layernorm", "pre_ffw_norm": "post_attention_layernorm"}
    if s.gemma2:
        norms |= {
            "pre_ffw_norm": "pre_feedforward_layernorm",
            "post_attention_norm": "post_attention_layernorm",
            "post_ffw_norm": "post_feedforward_layernorm",
        }
    return {
        "llm/embedder/input_embedding": _unchanged(
            (s.vocabulary, s.width), f"{model}.embed_tokens.weight"
        ),
        "llm/final_norm/scale": _unchanged((s.width,), f"{model}.norm.weight"),
        f"{LAYERS}/attn/q_einsum/w": _per_layer(
            (s.depth, s.heads, s.width, s.head_width), f"{attention}.q_proj.weight", _merge_heads
        ),
        f"{LAYERS}/attn/kv_einsum/w": _per_layer_pairs(
            (s.depth, 2, s.kv_heads, s.width, s.head_width),
            (f"{attention}.k_proj.weight", f"{attention}.v_proj.weight"),
            _merge_heads,
        ),
        f"{LAYERS}/attn/attn_vec_einsum/w": _per_layer(
            (s.depth, s.heads, s.head_width, s.width),
            f"{attention}.o_proj.weight",
            lambda a: a.reshape(-1, s.width).T,
        ),
        f"{LAYERS}/mlp/gating_einsum": _per_layer_pairs(
            (s.depth, 2, s.width, s.mlp),
            (f"{mlp}.gate_proj.weight", f"{mlp}.up_proj.weight"),
            _transpose,
        ),
        f"{LAYERS}/mlp/linear": _per_layer(
            (s.depth, s.mlp, s.width), f"{mlp}.down_proj.weight", _transpose
        ),
        **{
            f"{LAYERS}/{ours}/scale": _per_layer((s.depth, s.width), f"{layer}.{theirs}.weight")
            for ours, theirs in norms.items()
        },
    }


def _unchanged(shape: tuple[int, ...], name: str) -> ConversionRule:
    return ConversionRule(shape, lambda a: {name: a})


def _per_layer(
    shape: tuple[int, ...], name: str, convert_array: Callable[[Tensor], Tensor] = lambda a: a
) -> ConversionRule:
    return ConversionRule(
        shape, lambda a: {name.format(n): convert_array(one) for n, one in enumerate(a)}
    )


def _per_layer_pairs(
    shape: tuple[int, ...], names: tuple[str, str], convert_array: Callable[[Tensor], Tensor]
) -> ConversionRule:
    return ConversionRule(
        shape,
        lambda a: {
            name.format(n): convert_array(pair[place])
            for n, pair in enumerate(a)
            for place, name in enumerate(names)
        },
    )


def _transpose(array: Tensor) -> Tensor:
    return array.T


def _merge_heads(array: Tensor) -> Tensor:
    """(heads, width, head width) -> (heads * head width, width)."""
    return array.transpose(1, 2).flatten(0, 1)


def convert_arrays(arrays: Mapping[str, Tensor], sizes: ModelSizes) -> dict[str, Tensor]:
    """Convert all arrays to the tensors of transformers. Raises ConversionError on a mismatch."""
    expected = conversion_rules(sizes)
    if odd := sorted(expected.keys() - arrays.keys()):
        raise ConversionError(f"{odd[0]} is missing; use the complete .npz of a PaliGemma")
    if odd := sorted(arrays.keys() - expected.keys()):
        raise ConversionError(f"{odd[0]} is no array of PaliGemma 1 or 2; only those are converted")
    tensors: dict[str, Tensor] = {}
    for name, rule in expected.items():
        if tuple(arrays[name].shape) != rule.shape:
            raise ConversionError(
                f"{name} is {tuple(arrays[name].shape)}; the other arrays require {rule.shape}"
            )
        tensors |= {
            key: part.contiguous() for key, part in rule.convert_array(arrays[name]).items()
        }
    return tensors


def build_config(sizes: ModelSizes, tokenizer: Any, image_token: int) -> PaliGemmaConfig:
    """Return the configuration that the conversion of transformers writes for these sizes."""
    specials = {f"{n}_token_id": getattr(tokenizer, f"{n}_token_id") for n in ("bos", "eos", "pad")}
    vocabulary = sizes.vocabulary
    if len(tokenizer) > vocabulary:
        vocabulary = math.ceil(len(tokenizer) / 64) * 64
    text = {
        "model_type": "gemma2" if sizes.gemma2 else "gemma",
        "vocab_size": vocabulary,
        "hidden_size": sizes.width,
        "intermediate_size": sizes.mlp,
        "num_hidden_layers": sizes.depth,
        "num_attention_heads": sizes.heads,
        "num_key_value_heads": sizes.kv_heads,
        "head_dim": sizes.head_width,
        "max_position_embeddings": 8192,
        "num_image_tokens": sizes.patches,
        **specials,
    }
    if sizes.gemma2:
        text["query_pre_attn_scalar"] = QUERY_SCALARS.get(
            (sizes.width, sizes.depth), sizes.head_width
        )
        text |= {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0}
    vision = {
        "model_type": "siglip_vision_model",
        "hidden_size": sizes.vision_width,
        "intermediate_size": sizes.vision_mlp,
        "num_hidden_layers": sizes.vision_depth,
        "num_attention_heads": sizes.vision_heads,
        "patch_size": sizes.patch,
        "image_size": math.isqrt(sizes.patches) * sizes.patch,
        "projection_dim": sizes.width,
        "vision_use_head": False,
    }
    return PaliGemmaConfig(
        text_config=text,
        vision_config=vision,
        projection_dim=sizes.width,
        hidden_size=sizes.width,
        image_token_index=image_token,
        vocab_size=vocabulary,
        **specials,
    )


def convert(file: Path, folder: Path, processor_folder: Path) -> str:
    """Write the folder and return a summary."""
    arrays = read_npz(file)
    sizes = ModelSizes.from_arrays(arrays)
    tensors = convert_arrays(arrays, sizes)
    processor = PaliGemmaProcessor.from_pretrained(processor_folder, trust_remote_code=False)
    side = math.isqrt(sizes.patches) * sizes.patch
    if processor.image_processor.size != {"height": side, "width": side}:
        processor.image_processor.size = {"height": side, "width": side}
        processor.image_processor.image_seq_length = processor.image_seq_length = sizes.patches
    config = build_config(sizes, processor.tokenizer, processor.image_token_id)
    embeddings = tensors["model.language_model.embed_tokens.weight"]
    if missing := config.text_config.vocab_size - len(embeddings):
        # <image> and padding. Their mean logit is that of all tokens: they are never written.
        mean = embeddings.float().mean(0).to(embeddings.dtype).expand(missing, -1)
        embeddings = torch.cat([embeddings, mean])
        tensors["model.language_model.embed_tokens.weight"] = embeddings
    config.dtype = embeddings.dtype
    with torch.device("meta"):
        model = PaliGemmaForConditionalGeneration(config)
    model.load_state_dict({**tensors, "lm_head.weight": embeddings}, assign=True)
    model.tie_weights()
    ids = {f"{n}_token_id": getattr(processor.tokenizer, f"{n}_token_id") for n in ("bos", "eos")}
    model.generation_config = GenerationConfig(**ids, pad_token_id=processor.tokenizer.pad_token_id)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    name = "PaliGemma 2" if sizes.gemma2 else "PaliGemma"
    return f"{folder}: {name}, {model.num_parameters():,} parameters, {side} px, {config.dtype}"


def main(argv: list[str]) -> str | None:
    """Convert one file. Return an error message, or None."""
    parser = argparse.ArgumentParser(description="PaliGemma from big_vision's .npz to transformers")
    parser.add_argument("npz", type=Path, help="e.g. paligemma2-3b-pt-224.npz")
    parser.add_argument("folder", type=Path, help="output folder")
    parser.add_argument("--processor", type=Path, required=True, help="folder with tokenizer files")
    arguments = parser.parse_args(argv)
    try:
        print(convert(arguments.npz, arguments.folder, arguments.processor))
    except ConversionError as error:
        return f"{arguments.npz}: {error}"
    except OSError as error:
        return f"{arguments.processor}: there is no readable processor ({error})"
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
