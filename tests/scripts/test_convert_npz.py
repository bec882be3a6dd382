"""A checkpoint in big_vision's layout comes out as the model that it was written from."""

import importlib.util
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageTextToText

from palitune.models.config import Local
from palitune.models.loading import load

from support.tiny_models import reference_logits

SCRIPT = Path(__file__).parents[2] / "scripts" / "convert" / "npz.py"
Arrays = dict[str, np.ndarray]


def main(*arguments: str) -> str | None:
    spec = importlib.util.spec_from_file_location("convert_npz", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["convert_npz"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    said: str | None = module.main(list(arguments))
    return said


def big_vision(model: Any) -> Arrays:
    """Write a model's weights by the names and in the shapes that big_vision has."""
    weights = {key: w.detach().float().numpy() for key, w in model.state_dict().items()}
    tower, text = model.config.vision_config, model.config.text_config
    heads, wide = tower.num_attention_heads, tower.hidden_size

    def vision(name: str) -> np.ndarray:
        layers = range(tower.num_hidden_layers)
        return np.stack([weights[f"model.vision_tower.encoder.layers.{n}.{name}"] for n in layers])

    def language(name: str) -> np.ndarray:
        layers = range(text.num_hidden_layers)
        return np.stack([weights[f"model.language_model.layers.{n}.{name}"] for n in layers])

    def by_head(name: str, count: int) -> np.ndarray:
        found = language(f"self_attn.{name}.weight")
        return found.reshape(len(found), count, text.head_dim, -1).transpose(0, 1, 3, 2)

    def turned(array: np.ndarray) -> np.ndarray:
        return array.swapaxes(-1, -2)

    own = "model.vision_tower.embeddings"
    block = "img/Transformer/encoderblock"
    attention = f"{block}/MultiHeadDotProductAttention_0"
    found = {
        "img/embedding/kernel": weights[f"{own}.patch_embedding.weight"].transpose(2, 3, 1, 0),
        "img/embedding/bias": weights[f"{own}.patch_embedding.bias"],
        "img/pos_embedding": weights[f"{own}.position_embedding.weight"][None],
        "img/Transformer/encoder_norm/scale": weights["model.vision_tower.post_layernorm.weight"],
        "img/Transformer/encoder_norm/bias": weights["model.vision_tower.post_layernorm.bias"],
        "img/head/kernel": weights["model.multi_modal_projector.linear.weight"].T,
        "img/head/bias": weights["model.multi_modal_projector.linear.bias"],
        f"{block}/LayerNorm_0/scale": vision("layer_norm1.weight"),
        f"{block}/LayerNorm_0/bias": vision("layer_norm1.bias"),
        f"{block}/LayerNorm_1/scale": vision("layer_norm2.weight"),
        f"{block}/LayerNorm_1/bias": vision("layer_norm2.bias"),
        f"{block}/MlpBlock_0/Dense_0/kernel": turned(vision("mlp.fc1.weight")),
        f"{block}/MlpBlock_0/Dense_0/bias": vision("mlp.fc1.bias"),
        f"{block}/MlpBlock_0/Dense_1/kernel": turned(vision("mlp.fc2.weight")),
        f"{block}/MlpBlock_0/Dense_1/bias": vision("mlp.fc2.bias"),
        f"{attention}/out/kernel": turned(vision("self_attn.out_proj.weight")).reshape(
            -1, heads, wide // heads, wide
        ),
        f"{attention}/out/bias": vision("self_attn.out_proj.bias"),
        "llm/embedder/input_embedding": weights["model.language_model.embed_tokens.weight"],
        "llm/final_norm/scale": weights["model.language_model.norm.weight"],
        "llm/layers/attn/q_einsum/w": by_head("q_proj", text.num_attention_heads),
        "llm/layers/attn/kv_einsum/w": np.stack(
            [by_head(name, text.num_key_value_heads) for name in ("k_proj", "v_proj")], axis=1
        ),
        "llm/layers/attn/attn_vec_einsum/w": turned(language("self_attn.o_proj.weight")).reshape(
            -1, text.num_attention_heads, text.head_dim, text.hidden_size
        ),
        "llm/layers/mlp/gating_einsum": np.stack(
            [turned(language(f"mlp.{name}.weight")) for name in ("gate_proj", "up_proj")], axis=1
        ),
        "llm/layers/mlp/linear": turned(language("mlp.down_proj.weight")),
        "llm/layers/pre_attention_norm/scale": language("input_layernorm.weight"),
    }
    for name, letter in (("query", "q"), ("key", "k"), ("value", "v")):
        kernel = turned(vision(f"self_attn.{letter}_proj.weight"))
        found[f"{attention}/{name}/kernel"] = kernel.reshape(-1, wide, heads, wide // heads)
        bias = vision(f"self_attn.{letter}_proj.bias")
        found[f"{attention}/{name}/bias"] = bias.reshape(-1, heads, wide // heads)
    if text.model_type == "gemma":
        norms = {"pre_ffw_norm": "post_attention_layernorm"}
    else:
        norms = {
            "post_attention_norm": "post_attention_layernorm",
            "pre_ffw_norm": "pre_feedforward_layernorm",
            "post_ffw_norm": "post_feedforward_layernorm",
        }
    for ours, theirs in norms.items():
        found[f"llm/layers/{ours}/scale"] = language(f"{theirs}.weight")
    return found


def plain(folder: Path) -> Any:
    return AutoModelForImageTextToText.from_pretrained(folder)


@pytest.mark.parametrize(("family", "prefix"), [("paligemma", "params/"), ("paligemma2", "")])
def test_a_round_trip_gives_the_same_tensors_and_logits(
    family: str,
    prefix: str,
    tiny: Callable[[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = tiny(family)
    original = plain(source)
    # Norms start at zero, and two of them that are mixed up would not be noticed.
    torch.manual_seed(0)
    with torch.no_grad():
        for name, weight in original.named_parameters():
            if "norm" in name:
                weight.add_(0.1 * torch.randn_like(weight))
    np.savez(tmp_path / "x.npz", **{prefix + k: v for k, v in big_vision(original).items()})
    made = tmp_path / "made"
    assert main(str(tmp_path / "x.npz"), str(made), "--processor", str(source)) is None
    title = {"paligemma": "PaliGemma,", "paligemma2": "PaliGemma 2,"}[family]
    assert capsys.readouterr().out.startswith(f"{made}: {title} ")
    copy = plain(made)
    tensors = copy.state_dict()
    assert tensors.keys() == original.state_dict().keys()
    for name, weight in original.state_dict().items():
        assert torch.equal(tensors[name], weight), name
    assert torch.equal(reference_logits(copy), reference_logits(original))
    assert load(Local(path=str(made))).config.image_token_id == copy.config.image_token_id


def test_bfloat16_arrays_and_a_vocabulary_without_the_image_token_are_read(
    tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    original = plain(tiny("paligemma2")).bfloat16()
    arrays = {
        name: torch.from_numpy(array.copy()).bfloat16().view(torch.int16).numpy().view("V2")
        for name, array in big_vision(original).items()
    }
    embeddings = arrays["llm/embedder/input_embedding"]
    arrays["llm/embedder/input_embedding"] = embeddings[:-7]
    np.savez(tmp_path / "x.npz", **arrays)
    made = tmp_path / "made"
    told = [str(tmp_path / "x.npz"), str(made), "--processor", str(tiny("paligemma2"))]
    assert main(*told) is None
    copy = plain(made)
    assert copy.dtype == torch.bfloat16
    rows = copy.get_input_embeddings().weight
    assert len(rows) % 64 == 0
    assert len(rows) >= len(embeddings)
    known = len(embeddings) - 7
    assert torch.equal(rows[:known], original.get_input_embeddings().weight[:known])
    mean = rows[:known].float().mean(0)
    torch.testing.assert_close(
        rows[known:].float(), mean.expand(len(rows) - known, -1), atol=1e-2, rtol=0
    )
    assert torch.equal(copy.lm_head.weight, rows)


class Evil:
    def __reduce__(self) -> Any:
        return os.mkdir, ("owned",)


def faulty(arrays: Arrays, kind: str) -> Arrays:
    arrays = dict(arrays)
    if kind == "missing":
        del arrays["llm/final_norm/scale"]
    elif kind == "left over":
        arrays["llm/layers/attn/qkv_einsum/w"] = np.zeros(3)
    elif kind == "misshapen":
        arrays["img/head/kernel"] = arrays["img/head/kernel"][:, :-1]
    elif kind == "flat":
        arrays["llm/layers/attn/q_einsum/w"] = arrays["llm/layers/attn/q_einsum/w"][0]
    elif kind == "pickle":
        arrays["img/head/bias"] = np.array([Evil()], dtype=object)
    return arrays


@pytest.mark.parametrize(
    ("kind", "said"),
    {
        "missing": "llm/final_norm/scale is missing; use the complete .npz of a PaliGemma",
        "left over": "llm/layers/attn/qkv_einsum/w is no array of PaliGemma 1 or 2; only those",
        "misshapen": "img/head/kernel is (64, 63); the other arrays require (64, 64)",
        "flat": "llm/layers/attn/q_einsum/w has 3 dimensions, not 4",
        "pickle": "it is no .npz of plain arrays (Object arrays cannot be loaded when allow_pickle",
    }.items(),
)
def test_what_is_no_paligemma_ends_in_one_sentence(
    kind: str,
    said: str,
    tiny: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("x.npz", **faulty(big_vision(plain(tiny("paligemma"))), kind))
    told = main("x.npz", "made", "--processor", str(tiny("paligemma")))
    assert told is not None
    assert told.startswith(f"x.npz: {said}")
    assert {file.name for file in tmp_path.iterdir()} == {"x.npz"}


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", pickle.dumps(Evil())])
def test_a_file_of_another_kind_ends_in_one_sentence(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(content)
    told = main(str(tmp_path / "x.npz"), str(tmp_path / "made"), "--processor", str(tmp_path))
    assert told is not None
    assert "it is no .npz of plain arrays" in told
    assert not (tmp_path / "owned").exists()
