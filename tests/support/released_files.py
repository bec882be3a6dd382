"""Tensor names of the released checkpoints, written out from the index of their files."""

from itertools import product
from typing import Any

_GEMMA_NORMS = {
    "gemma": ("input_layernorm", "post_attention_layernorm"),
    "gemma2": (
        "input_layernorm",
        "post_attention_layernorm",
        "pre_feedforward_layernorm",
        "post_feedforward_layernorm",
    ),
}
_GEMMA_LINEAR = (
    *(f"self_attn.{name}_proj" for name in "qkvo"),
    *(f"mlp.{name}_proj" for name in ("gate", "up", "down")),
)
_SIGLIP_MODULES = (
    *(f"self_attn.{name}_proj" for name in ("q", "k", "v", "out")),
    "mlp.fc1",
    "mlp.fc2",
    "layer_norm1",
    "layer_norm2",
)


def released_names(config: Any) -> set[str]:
    """Return the names in model.safetensors.index.json of a released checkpoint of this size."""
    text, vision = config.text_config, config.vision_config
    language = [
        f"layers.{layer}.{name}.weight"
        for layer in range(text.num_hidden_layers)
        for name in (*_GEMMA_NORMS[text.model_type], *_GEMMA_LINEAR)
    ]
    tower = [
        f"encoder.layers.{layer}.{name}.{kind}"
        for layer, name, kind in product(
            range(vision.num_hidden_layers), _SIGLIP_MODULES, ("weight", "bias")
        )
    ]
    return {
        "multi_modal_projector.linear.weight",
        "multi_modal_projector.linear.bias",
        "language_model.model.embed_tokens.weight",
        "language_model.model.norm.weight",
        "vision_tower.vision_model.embeddings.patch_embedding.weight",
        "vision_tower.vision_model.embeddings.patch_embedding.bias",
        "vision_tower.vision_model.embeddings.position_embedding.weight",
        "vision_tower.vision_model.post_layernorm.weight",
        "vision_tower.vision_model.post_layernorm.bias",
        *(f"language_model.model.{name}" for name in language),
        *(f"vision_tower.vision_model.{name}" for name in tower),
    }
