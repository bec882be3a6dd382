"""Adapters train exactly the requested parts, at every released size."""

import dataclasses
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PaliGemmaConfig, PaliGemmaForConditionalGeneration

from palitune.errors import ModelError
from palitune.models.adapters.config import (
    ADAPTERS,
    MODULE_GROUPS,
    Full,
    Initialization,
    Lora,
    Qlora,
    module_group,
)
from palitune.models.config import Dtype, Local
from palitune.models.loading import load, load_for_training

VISION_WIDTH, VISION_DEPTH, VISION_MLP = 1152, 27, 4304


@dataclasses.dataclass(frozen=True)
class Size:
    """The language model of a released size; the vision tower is the same in all."""

    kind: str
    width: int
    depth: int
    mlp: int
    heads: int
    key_heads: int
    head_width: int


# Shapes: big_vision's model code; they are confirmed by the published numbers of parameters below.
SIZES = {
    "paligemma 3b": Size("gemma", 2048, 18, 16384, 8, 1, 256),
    "paligemma2 3b": Size("gemma2", 2304, 26, 9216, 8, 4, 256),
    "paligemma2 10b": Size("gemma2", 3584, 42, 14336, 16, 8, 256),
    "paligemma2 28b": Size("gemma2", 4608, 46, 36864, 32, 16, 128),
}
RESOLUTIONS = [224, 448, 896]


@cache
def released(name: str, resolution: int) -> Any:
    """Return the network of a released checkpoint on the meta device."""
    size = SIZES[name]
    config = PaliGemmaConfig(
        text_config={
            "model_type": size.kind,
            "vocab_size": 257216,
            "hidden_size": size.width,
            "num_hidden_layers": size.depth,
            "intermediate_size": size.mlp,
            "num_attention_heads": size.heads,
            "num_key_value_heads": size.key_heads,
            "head_dim": size.head_width,
        },
        vision_config={
            "model_type": "siglip_vision_model",
            "hidden_size": VISION_WIDTH,
            "intermediate_size": VISION_MLP,
            "num_hidden_layers": VISION_DEPTH,
            "num_attention_heads": 16,
            "image_size": resolution,
            "patch_size": 14,
            "vision_use_head": False,
        },
        projection_dim=size.width,
        hidden_size=size.width,
        image_token_index=257152,
        vocab_size=257216,
    )
    with torch.device("meta"):
        return PaliGemmaForConditionalGeneration(config)


def linear_layers(size: Size) -> dict[str, dict[str, tuple[int, int]]]:
    """By part: (inputs, outputs) of every linear layer, written down from the shapes."""
    queries, keys = size.heads * size.head_width, size.key_heads * size.head_width
    language, vision = "model.language_model.layers", "model.vision_tower.encoder.layers"
    attention = {"q": (size.width, queries), "k": (size.width, keys), "v": (size.width, keys)}
    attention["o"] = (queries, size.width)
    mlp = {"gate": (size.width, size.mlp), "up": (size.width, size.mlp)}
    mlp["down"] = (size.mlp, size.width)
    square = (VISION_WIDTH, VISION_WIDTH)
    vision_mlp = {"fc1": (VISION_WIDTH, VISION_MLP), "fc2": (VISION_MLP, VISION_WIDTH)}
    return {
        "language.attention": {
            f"{language}.{layer}.self_attn.{name}_proj": shape
            for layer in range(size.depth)
            for name, shape in attention.items()
        },
        "language.mlp": {
            f"{language}.{layer}.mlp.{name}_proj": shape
            for layer in range(size.depth)
            for name, shape in mlp.items()
        },
        "vision.attention": {
            f"{vision}.{layer}.self_attn.{name}_proj": square
            for layer in range(VISION_DEPTH)
            for name in ("q", "k", "v", "out")
        },
        "vision.mlp": {
            f"{vision}.{layer}.mlp.{name}": shape
            for layer in range(VISION_DEPTH)
            for name, shape in vision_mlp.items()
        },
        "projector": {"model.multi_modal_projector.linear": (VISION_WIDTH, size.width)},
        "head": {"lm_head": (size.width, 257216)},
    }


def lora_parameters(layers: dict[str, tuple[int, int]], rank: int) -> int:
    return sum(rank * (inputs + outputs) for inputs, outputs in layers.values())


@pytest.mark.parametrize(
    ("name", "resolution", "published"),
    [
        # Keras' presets of the same checkpoints, without the 64 rows that transformers adds to the
        # vocabulary (keras-hub, pali_gemma_presets.py).
        ("paligemma 3b", 224, 2_923_335_408),
        ("paligemma2 3b", 224, 3_032_094_960),
        ("paligemma2 3b", 448, 3_032_979_696),
        ("paligemma2 10b", 448, 9_663_294_192),
        ("paligemma2 28b", 224, 27_650_192_112),
    ],
)
def test_the_shapes_of_these_tests_give_the_published_numbers_of_parameters(
    name: str, resolution: int, published: int
) -> None:
    total = sum(p.numel() for p in released(name, resolution).parameters())
    assert total - 64 * SIZES[name].width == published


@pytest.mark.parametrize("resolution", RESOLUTIONS)
@pytest.mark.parametrize("name", SIZES)
def test_every_part_matches_exactly_its_own_linear_layers(name: str, resolution: int) -> None:
    expected = linear_layers(SIZES[name])
    for part in MODULE_GROUPS:
        assert Lora(targets=[part]).target_modules(released(name, resolution)) == sorted(
            expected[part]
        )
    for whole in ("language", "vision"):
        both = expected[f"{whole}.attention"] | expected[f"{whole}.mlp"]
        assert Lora(targets=[whole]).target_modules(released(name, resolution)) == sorted(both)


@pytest.mark.parametrize("resolution", RESOLUTIONS)
@pytest.mark.parametrize("name", SIZES)
def test_default_lora_trains_exactly_the_language_model_at_rank_16(
    name: str, resolution: int
) -> None:
    layers = linear_layers(SIZES[name])
    expected = layers["language.attention"] | layers["language.mlp"]
    released.cache_clear()  # the network is modified in place
    with torch.device("meta"):
        adapted = Lora().apply_to(released(name, resolution))
    trained = {name: p.numel() for name, p in adapted.named_parameters() if p.requires_grad}
    released.cache_clear()
    prefix = "base_model.model."
    assert set(trained) == {
        f"{prefix}{layer}.lora_{side}.default.weight" for layer in expected for side in "AB"
    }
    assert sum(trained.values()) == lora_parameters(expected, 16)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("paligemma 3b", 19_611_648),
        ("paligemma2 3b", 20_766_720),
        ("paligemma2 10b", 54_018_048),
        ("paligemma2 28b", 114_180_096),
    ],
)
def test_default_lora_has_the_recorded_number_of_parameters(name: str, parameters: int) -> None:
    layers = linear_layers(SIZES[name])
    counted = lora_parameters(layers["language.attention"] | layers["language.mlp"], 16)
    assert counted == parameters


@pytest.mark.parametrize("part", MODULE_GROUPS)
@pytest.mark.parametrize("name", ["paligemma 3b", "paligemma2 28b"])
def test_the_number_of_trained_parameters_of_a_part_follows_the_formula(
    name: str, part: str
) -> None:
    released.cache_clear()
    with torch.device("meta"):
        adapted = Lora(targets=[part], rank=8).apply_to(released(name, 224))
    trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    released.cache_clear()
    assert trained == lora_parameters(linear_layers(SIZES[name])[part], 8)


# On tiny networks --------------------------------------------------------------------------------

FAMILIES = ["paligemma", "paligemma2"]


@pytest.fixture
def base(tiny: Callable[[str], Path]) -> Any:
    return load(Local(path=str(tiny("paligemma2"))))


def test_older_module_names_belong_to_the_same_parts() -> None:
    names = {
        "model.vision_tower.encoder.layers.3.self_attn.q_proj": "vision.attention",
        "vision_tower.vision_model.encoder.layers.3.mlp.fc1": "vision.mlp",
        "language_model.model.layers.0.self_attn.q_proj.weight": "language.attention",
        "model.language_model.layers.0.mlp.down_proj": "language.mlp",
        "model.language_model.embed_tokens.weight": "language.rest",
        "model.vision_tower.embeddings.patch_embedding": "vision.rest",
        "model.multi_modal_projector.linear": "projector",
        "lm_head": "head",
    }
    assert {name: module_group(name) for name in names} == names


@pytest.mark.parametrize("dtype", [Dtype.fp32, Dtype.bf16])
@pytest.mark.parametrize("adapter", [Lora(), Qlora(), Qlora(bits=8)], ids=lambda a: a.name)
def test_lora_is_in_float32_and_everything_else_is_frozen(
    adapter: Lora, dtype: Dtype, tiny: Callable[[str], Path]
) -> None:
    network = load_for_training(Local(path=str(tiny("paligemma2")), dtype=dtype), adapter)
    for name, parameter in network.named_parameters():
        assert parameter.requires_grad == ("lora_" in name)
        if "lora_" in name:
            assert parameter.dtype == torch.float32


def test_resolved_targets_are_the_same_with_and_without_the_adapter(base: Any) -> None:
    adapter = Lora(targets=["vision.attention", "projector"])
    before = adapter.target_modules(base)
    adapted = adapter.apply_to(base)
    assert adapter.target_modules(adapted) == before
    assert len(before) == 2 * 4 + 1


def test_a_part_that_matches_nothing_is_refused(base: Any) -> None:
    del base.model.vision_tower.encoder.layers[:]
    with pytest.raises(ModelError, match=r"adapter\.targets: vision\.mlp matches nothing"):
        Lora(targets=["language", "vision.mlp"]).target_modules(base)


@pytest.mark.parametrize(
    ("train", "count"),
    [
        (["language.attention"], 2 * 4),
        (["projector"], 2),
        (["vision"], 2 * 16 + 5),
        (["language"], 2 * (4 + 3 + 4) + 2),
        (["language", "vision", "projector"], 63),
    ],
)
def test_full_trains_the_parameters_of_its_parts(train: list[str], count: int, base: Any) -> None:
    adapter = Full(trainable_parts=train)
    network = adapter.apply_to(base)
    trained = sorted(name for name, p in network.named_parameters() if p.requires_grad)
    assert trained == adapter.target_modules(network)
    assert len(trained) == count


def probe(network: Any) -> torch.Tensor:
    torch.manual_seed(0)
    ids = torch.tensor([[network.config.image_token_id] * 64 + [2, 10, 11, 12]])
    pixels = torch.randint(0, 256, (1, 3, 112, 112), dtype=torch.uint8)
    with torch.no_grad():
        logits: torch.Tensor = network(
            input_ids=ids,
            pixel_values=pixels,
            token_type_ids=torch.zeros_like(ids),
            attention_mask=torch.ones_like(ids),
        ).logits
    return logits


@pytest.mark.parametrize("initialization", Initialization, ids=lambda i: i.name)
def test_a_new_lora_gives_the_logits_of_the_base_model(
    initialization: Initialization, tiny: Callable[[str], Path]
) -> None:
    model = Local(path=str(tiny("paligemma2")))
    expected = probe(load(model))
    network = load_for_training(model, Lora(initialization=initialization)).eval()
    assert (probe(network) - expected).abs().max() <= 2e-5


@pytest.mark.parametrize("initialization", Initialization, ids=lambda i: i.name)
def test_only_pissa_and_olora_change_the_base_model(
    initialization: Initialization, tiny: Callable[[str], Path]
) -> None:
    model = Local(path=str(tiny("paligemma2")))
    expected = probe(load(model))
    network = load_for_training(model, Lora(initialization=initialization)).eval()
    with network.disable_adapter():
        moved = not torch.equal(probe(network), expected)
    assert moved == (initialization.name in ("pissa", "pissa_niter_4", "olora"))


@pytest.mark.parametrize(
    ("adapter", "scale"),
    [
        (Lora(rank=8), 2.0),
        (Lora(rank=32), 2.0),
        (Lora(rank=8, alpha=8), 1.0),
        (Lora(rank=4, alpha=8, rslora=True), 4.0),
    ],
)
def test_the_update_is_scaled_by_alpha_over_rank(adapter: Lora, scale: float, base: Any) -> None:
    network = adapter.apply_to(base)
    scalings = {m.scaling["default"] for m in network.modules() if hasattr(m, "lora_A")}
    assert scalings == {scale}


def test_dora_learns_a_magnitude_per_output_and_dropout_is_applied(base: Any) -> None:
    network = Lora(targets=["projector"], dora=True, dropout=0.25).apply_to(base)
    layer = network.base_model.model.model.multi_modal_projector.linear
    assert layer.lora_magnitude_vector["default"].weight.shape == (64,)
    assert layer.lora_dropout["default"].p == 0.25


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"targets": ["q_proj"]}, r"adapter\.targets: 'q_proj' is not one of language\.attention"),
        ({"targets": []}, r"adapter\.targets must name at least one of"),
        ({"rank": 0}, r"adapter\.rank must be at least 1, got 0"),
        ({"alpha": 0}, r"adapter\.alpha must be at least 1, got 0"),
        ({"dropout": 1.0}, r"adapter\.dropout must be at least 0 and below 1, got 1\.0"),
        (
            {"rank": 5, "initialization": Initialization.orthogonal},
            "must be even with initialization=orthogonal, got 5",
        ),
        ({"dora": True, "initialization": Initialization.pissa}, r"adapter\.dora does not support"),
        ({"targets": ["head"], "initialization": Initialization.olora}, "shares with the embed"),
    ],
)
def test_illegal_lora_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Lora(**settings)


@pytest.mark.parametrize("initialization", ["orthogonal", "pissa", "pissa_niter_4", "olora"])
def test_initializations_that_need_unquantized_weights_are_refused_for_qlora(
    initialization: str,
) -> None:
    with pytest.raises(ValueError, match=f"initialization={initialization} needs unquantized"):
        Qlora(initialization=Initialization(initialization))


def test_other_bits_than_4_and_8_are_refused() -> None:
    with pytest.raises(ValueError, match=r"adapter\.bits must be 4 or 8, got 2"):
        Qlora(bits=2)


def test_full_refuses_unknown_parts() -> None:
    with pytest.raises(ValueError, match=r"adapter\.trainable_parts: 'all' is not one of"):
        Full(trainable_parts=["all"])


def test_adapters_are_registered_by_name() -> None:
    assert set(ADAPTERS) == {"lora", "qlora", "full"}
    assert all(adapter.name == name for name, adapter in ADAPTERS.items())
