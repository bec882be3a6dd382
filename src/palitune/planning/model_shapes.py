"""The shape of a network: sizes of its layers and the parameters that its adapter trains.

The network is built on torch's meta device, without weights, and the adapter is applied to it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from palitune.models.adapters.config import AdapterConfig, module_group
from palitune.models.adapters.peft_layers import PEFT_PREFIX
from palitune.models.config import Device, ModelConfig, Network, Released
from palitune.models.hub_files import family, fetch_model, read_config
from palitune.models.loading import configure_softcaps, resolve_attn_implementation

VOCAB_SIZE = 257_216
IMAGE_TOKEN_ID = 257_152
_GEMMA_TYPES = {"paligemma": "gemma", "paligemma2": "gemma2"}
GEMMA_FIELDS = (
    *("hidden_size", "intermediate_size", "num_hidden_layers"),
    *("num_attention_heads", "num_key_value_heads", "head_dim"),
)
GEMMA_SIZES = {
    ("paligemma", "3b"): (2048, 16384, 18, 8, 1, 256),
    ("paligemma2", "3b"): (2304, 9216, 26, 8, 4, 256),
    ("paligemma2", "10b"): (3584, 14336, 42, 16, 8, 256),
    ("paligemma2", "28b"): (4608, 36864, 46, 32, 16, 128),
}
"""Values of `GEMMA_FIELDS` for Gemma 2B and Gemma 2 2B, 9B, 27B, from big_vision's
models/ppp/gemma.py."""
SIGLIP_CONFIG = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "patch_size": 14,
}
"""SigLIP So400m/14, the vision tower of all released models."""


@dataclass(frozen=True)
class Tower:
    """Sizes of the language model or of the vision tower."""

    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_key_value_heads: int
    head_dim: int


@dataclass(frozen=True)
class Linear:
    """A linear layer of the network."""

    module_group: str
    """As returned by `palitune.models.adapters.config.module_group`."""
    in_features: int
    out_features: int
    rank: int
    """LoRA rank; 0 without LoRA."""
    trainable: bool
    """Whether the weight itself is trained."""

    @property
    def num_weights(self) -> int:
        return self.in_features * self.out_features


@dataclass(frozen=True)
class ModelShape:
    """Everything about a network that memory and time depend on."""

    family: str
    language: Tower
    vision: Tower
    vocab_size: int
    image_token_id: int
    num_patches: int
    """Tokens per image."""
    image_size: int
    """Side of an image in pixels."""
    attn_implementation: str
    """Attention implementation of the language model."""
    has_attn_softcap: bool
    """Whether attention scores are soft-capped."""
    has_logit_softcap: bool
    """Whether output logits are soft-capped."""
    sliding_window: int | None
    """Width of the sliding window of every other language layer, or None."""
    parameter_counts: dict[str, int]
    """Parameters of the base model by module group; `head` includes the tied embeddings."""
    linears: tuple[Linear, ...]
    trainable_tensors: tuple[tuple[str, int], ...]
    """(module group, number of elements) of every trained tensor."""

    @property
    def language_linears(self) -> tuple[Linear, ...]:
        """The linear layers that quantization applies to."""
        return tuple(
            linear for linear in self.linears if linear.module_group.startswith("language.")
        )

    def trains(self, *module_groups: str) -> bool:
        """Return whether anything is trained in module groups with one of these prefixes."""
        return any(group.startswith(module_groups) for group, _ in self.trainable_tensors)

    @property
    def num_trainable_parameters(self) -> int:
        return sum(size for _, size in self.trainable_tensors)

    @property
    def is_full_finetuning(self) -> bool:
        return not any(linear.rank for linear in self.linears)


def build_model_shape(model: ModelConfig, adapter: AdapterConfig) -> ModelShape:
    """Return the shape of a model with its adapter, without reading weights.

    Attention is that of a training on a GPU, unless `model.device=cpu`.

    A model that is not a released one needs its config.json.
    """
    config = model_config(model)
    configure_softcaps(model, config)
    network = _build_on_meta(config)
    parameters: dict[str, int] = {}
    for name, weight in network.named_parameters():
        group = "head" if "embed_tokens" in name or "lm_head" in name else str(module_group(name))
        parameters[group] = parameters.get(group, 0) + weight.numel()
    with torch.device("meta"):
        network = adapter.apply_to(network)
    return _read_model_shape(model, network, config, parameters)


def model_config(model: ModelConfig) -> Any:
    """Return the configuration of a model; that of a released model needs no file."""
    if isinstance(model, Released) and model.path is None:
        return released_config(model.name, model.size, model.resolution)
    return read_config(fetch_model(model, weights=False))


def released_config(family: str, size: str, resolution: int) -> Any:
    """Return the configuration of a released model."""
    from transformers import PaliGemmaConfig

    text: dict[str, Any] = dict(zip(GEMMA_FIELDS, GEMMA_SIZES[family, size], strict=True))
    text |= {"vocab_size": VOCAB_SIZE, "model_type": _GEMMA_TYPES[family]}
    vision = {"model_type": "siglip_vision_model", "vision_use_head": False, **SIGLIP_CONFIG}
    return PaliGemmaConfig(
        text_config=text,
        vision_config=vision | {"image_size": resolution},
        projection_dim=text["hidden_size"],
        image_token_index=IMAGE_TOKEN_ID,
    )


def _build_on_meta(config: Any) -> Network:
    from palitune.models.paligemma import PaliGemmaPrefixLM

    with torch.device("meta"):
        network = PaliGemmaPrefixLM(config)
    network.tie_weights()
    return network


def _read_model_shape(
    model: ModelConfig, network: Network, config: Any, parameter_counts: dict[str, int]
) -> ModelShape:
    text, vision = config.text_config, config.vision_config
    return ModelShape(
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
        vocab_size=text.vocab_size,
        image_token_id=config.image_token_id,
        num_patches=(vision.image_size // vision.patch_size) ** 2,
        image_size=vision.image_size,
        attn_implementation=resolve_attn_implementation(
            model,
            config,
            "cpu" if model.device is Device.cpu else "cuda",
            for_training=True,
        ),
        has_attn_softcap=getattr(text, "attn_logit_softcapping", None) is not None,
        has_logit_softcap=getattr(text, "final_logit_softcapping", None) is not None,
        sliding_window=getattr(text, "sliding_window", None),
        parameter_counts=parameter_counts,
        linears=tuple(_iter_linears(network)),
        trainable_tensors=tuple(
            (str(module_group(name)), weight.numel())
            for name, weight in network.named_parameters()
            if weight.requires_grad
        ),
    )


def _iter_linears(network: Network) -> Iterator[Linear]:
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear) and "lora_" not in name:
            wrapped = network.get_submodule(name.removesuffix(".base_layer"))
            rank = wrapped.r["default"] if hasattr(wrapped, "lora_A") else 0
            yield Linear(
                str(module_group(name.removeprefix(PEFT_PREFIX))),
                module.in_features,
                module.out_features,
                rank,
                module.weight.requires_grad,
            )
