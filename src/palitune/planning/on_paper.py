"""A network without weights: what it is made of, and what its adapter trains.

The network itself is built on torch's meta device, and the adapter attached to it as to a real one,
so that nothing is counted that is not there.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from palitune.models.adapters import Adapter, part_of
from palitune.models.base_files import family, fetch, read_config
from palitune.models.checkpoints import Model, Network, Released
from palitune.models.loading import apply_softcaps, attention_name
from palitune.models.lora_layers import PEFT_PREFIX

VOCABULARY = 257_216
IMAGE_TOKEN = 257_152
LANGUAGE_MODELS: dict[tuple[str, str], dict[str, int]] = {
    # width, MLP width, layers, heads, heads of keys and values, width of a head
    key: dict(
        zip(
            (
                *("hidden_size", "intermediate_size", "num_hidden_layers"),
                *("num_attention_heads", "num_key_value_heads", "head_dim"),
            ),
            sizes,
            strict=True,
        )
    )
    for key, sizes in {
        ("paligemma", "3b"): (2048, 16384, 18, 8, 1, 256),
        ("paligemma2", "3b"): (2304, 9216, 26, 8, 4, 256),
        ("paligemma2", "10b"): (3584, 14336, 42, 16, 8, 256),
        ("paligemma2", "28b"): (4608, 36864, 46, 32, 16, 128),
    }.items()
}
"""Gemma 2B and Gemma 2 2B, 9B, 27B as big_vision's models/ppp/gemma.py configures them."""
VISION_TOWER = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "patch_size": 14,
}
"""SigLIP So400m/14, the same in all released models."""


@dataclass(frozen=True)
class Tower:
    """Sizes of the layers of the language model or of the vision tower."""

    width: int
    mlp: int
    layers: int
    heads: int
    key_heads: int
    head_width: int


@dataclass(frozen=True)
class Linear:
    """A linear layer of the network."""

    part: str
    """As `adapters.part_of` names it."""
    inputs: int
    outputs: int
    rank: int
    """Of the LoRA on it; 0: none."""
    trained: bool
    """Whether its own weight is trained."""


@dataclass(frozen=True)
class Paper:
    """What a prediction needs to know of a network."""

    family: str
    language: Tower
    vision: Tower
    vocabulary: int
    image_token: int
    patches: int
    """Tokens of an image."""
    side: int
    """Of an image in pixels."""
    attention: str
    """Kernel of the language model, as transformers knows it."""
    capped_scores: bool
    """Whether attention scores are soft-capped."""
    capped_logits: bool
    """Whether the output logits are."""
    windowed: bool
    """Whether every other language layer has a mask of its own."""
    parameters: dict[str, int]
    """Numbers of the base by part; embeddings and head, which are one tensor, are `head`."""
    linears: tuple[Linear, ...]
    trained: tuple[tuple[str, int], ...]
    """Part and size of every tensor that is trained."""

    @property
    def language_linears(self) -> tuple[Linear, ...]:
        """The layers that quantization reaches."""
        return tuple(one for one in self.linears if one.part.startswith("language."))

    def trains(self, *parts: str) -> bool:
        """Whether anything is trained in parts whose names start so."""
        return any(part.startswith(parts) for part, _ in self.trained)


def put_on_paper(model: Model, adapter: Adapter) -> Paper:
    """Build the network of a model and attach the adapter, without reading weights.

    A released model needs no file; another one its config.json.
    """
    config = config_of(model)
    apply_softcaps(model, config)
    network = _network(config)
    parameters: dict[str, int] = {}
    for name, weight in network.named_parameters():
        part = "head" if "embed_tokens" in name or "lm_head" in name else str(part_of(name))
        parameters[part] = parameters.get(part, 0) + weight.numel()
    with torch.device("meta"):
        network = adapter.attach(network)
    return _read(model, network, config, parameters)


def config_of(model: Model) -> Any:
    """Return the configuration of a model, out of the table where it is a released one."""
    if isinstance(model, Released) and model.path is None:
        return released(model.name, model.size, model.resolution)
    return read_config(fetch(model, weights=False))


def released(family: str, size: str, resolution: int) -> Any:
    """Return the configuration of a released model."""
    from transformers import PaliGemmaConfig

    text: dict[str, Any] = dict(LANGUAGE_MODELS[family, size], vocab_size=VOCABULARY)
    text["model_type"] = "gemma2" if family == "paligemma2" else "gemma"
    vision = {"model_type": "siglip_vision_model", "vision_use_head": False, **VISION_TOWER}
    return PaliGemmaConfig(
        text_config=text,
        vision_config=vision | {"image_size": resolution},
        projection_dim=text["hidden_size"],
        image_token_index=IMAGE_TOKEN,
    )


def _network(config: Any) -> Network:
    from palitune.models.prefix_lm import PrefixLM

    with torch.device("meta"):
        network = PrefixLM(config)
    network.tie_weights()
    return network


def _read(model: Model, network: Network, config: Any, parameters: dict[str, int]) -> Paper:
    text, vision = config.text_config, config.vision_config
    return Paper(
        family=family(config),
        language=Tower(
            text.hidden_size,
            text.intermediate_size,
            text.num_hidden_layers,
            text.num_attention_heads,
            text.num_key_value_heads,
            text.head_dim,
        ),
        vision=Tower(
            vision.hidden_size,
            vision.intermediate_size,
            vision.num_hidden_layers,
            vision.num_attention_heads,
            vision.num_attention_heads,
            vision.hidden_size // vision.num_attention_heads,
        ),
        vocabulary=text.vocab_size,
        image_token=config.image_token_id,
        patches=(vision.image_size // vision.patch_size) ** 2,
        side=vision.image_size,
        attention=attention_name(model, config),
        capped_scores=getattr(text, "attn_logit_softcapping", None) is not None,
        capped_logits=getattr(text, "final_logit_softcapping", None) is not None,
        windowed=getattr(text, "sliding_window", None) is not None,
        parameters=parameters,
        linears=tuple(_linears(network)),
        trained=tuple(
            (str(part_of(name)), weight.numel())
            for name, weight in network.named_parameters()
            if weight.requires_grad
        ),
    )


def _linears(network: Network) -> Iterator[Linear]:
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear) and "lora_" not in name:
            wrapped = network.get_submodule(name.removesuffix(".base_layer"))
            rank = wrapped.r["default"] if hasattr(wrapped, "lora_A") else 0
            yield Linear(
                str(part_of(name.removeprefix(PEFT_PREFIX))),
                module.in_features,
                module.out_features,
                rank,
                module.weight.requires_grad,
            )
