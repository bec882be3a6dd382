"""The language model of an exported folder as ONNX.

One graph serves prompt and generation. Inputs are the processor's output for the new tokens
(`input_ids`, `attention_mask`, and `token_type_ids`: 0 on image and prompt, 1 on generated tokens),
the features of the image tokens among them, and as `past.*` the mask, types, keys and values that
the graph returned as `present.*` for the tokens before. The output is the logits of the next token.
The attention mask follows from the types, as in training.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from palitune.export import onnx_session
from palitune.models import decoder_layers


class _PastKeyValues:
    """KV cache by layer; `update` appends the keys and values of new tokens."""

    def __init__(self, states: Sequence[Tensor]) -> None:
        self._layers = list(zip(states[::2], states[1::2], strict=True))
        self.present: list[Tensor] = []

    def update(self, key: Tensor, value: Tensor, layer_idx: int) -> tuple[Tensor, Tensor]:
        past = self._layers[layer_idx]
        key, value = torch.cat([past[0], key], dim=2), torch.cat([past[1], value], dim=2)
        self.present += [key, value]
        return key, value


class _LanguageModel(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.language_model, self.lm_head = model.model.language_model, model.lm_head
        self.image_token_id: int = model.config.image_token_id
        self.softcap: float | None = getattr(
            self.language_model.config, "final_logit_softcapping", None
        )

    def forward(
        self, ids: Tensor, mask: Tensor, types: Tensor, features: Tensor, *past: Tensor
    ) -> tuple[Tensor, ...]:
        """New tokens (rows, new), features (image tokens, hidden) -> logits (rows, vocabulary).

        `past`, and the outputs after the logits: mask and types (rows, tokens), and for every layer
        keys and values (rows, heads, tokens, head size).
        """
        num_past = past[0].shape[1]
        mask, types = torch.cat([past[0], mask], dim=1), torch.cat([past[1], types], dim=1)
        positions = mask.cumsum(dim=1)
        bool_masks = decoder_layers.masks_by_layer_type(
            self.language_model, types, mask, positions, num_past
        )
        masks = {
            layer_type: decoder_layers.to_additive_mask(mask_of_type, torch.float32)
            for layer_type, mask_of_type in bool_masks.items()
        }
        hidden, positions = self._input_embeddings(ids, features), positions[:, num_past:]
        rotary = self.language_model.rotary_emb(hidden, position_ids=positions)
        cache = _PastKeyValues(past[2:])
        layer_types = decoder_layers.layer_types(self.language_model)
        for layer, layer_type in zip(self.language_model.layers, layer_types, strict=True):
            hidden = layer(
                hidden,
                attention_mask=masks[layer_type],
                position_ids=positions,
                position_embeddings=rotary,
                past_key_values=cache,
            )
        return self._logits(hidden[:, -1]), mask, types, *cache.present

    def _input_embeddings(self, ids: Tensor, features: Tensor) -> Tensor:
        """Replace the embedding of the n-th image token by the n-th feature."""
        is_image = ids == self.image_token_id
        index = is_image.long().flatten().cumsum(dim=0).view_as(ids)
        padded = torch.cat([torch.zeros(1, features.shape[1]), features])  # also without images
        image_embeddings = padded[torch.where(is_image, index, 0)]
        return torch.where(
            is_image[:, :, None], image_embeddings, self.language_model.get_input_embeddings()(ids)
        )

    def _logits(self, hidden: Tensor) -> Tensor:
        # In this order ONNX Runtime does not transpose the vocabulary matrix for every token.
        logits = (self.lm_head.weight @ self.language_model.norm(hidden).t()).t()
        return torch.tanh(logits / self.softcap) * self.softcap if self.softcap else logits


def export_language(model: Any, file: Path) -> None:
    """Export the language model of a float32 model with eager attention, with dynamic sizes.

    Raises ModelError if ONNX Runtime computes different logits.
    """
    module = _LanguageModel(model).eval()
    layers = range(len(module.language_model.layers))
    states = [f"{layer}.{kind}" for layer in layers for kind in ("key", "value")]
    cached = ["attention_mask", "token_type_ids", *states]
    prompt = _example_inputs(module, model.config.text_config)
    tokens = {0: "rows", 1: "new"}
    axes = [tokens, tokens, tokens, {0: "image tokens"}, *_dynamic_axes(cached, "past")]
    names = ["input_ids", *cached[:2], "image_features", *(f"past.{name}" for name in cached)]
    present = dict(
        zip((f"present.{name}" for name in cached), _dynamic_axes(cached, "seen"), strict=True)
    )
    session = onnx_session.export_module(
        module,
        file,
        dict(zip(names, zip(prompt, axes, strict=True), strict=True)),
        {"logits": {0: "rows"}, **present},
    )
    new_token = torch.ones(2, 1, dtype=torch.long)
    inputs = prompt
    for _ in range(2):  # the prompt, then one generated token per row
        with torch.no_grad():
            expected = module(*inputs)[0]
        logits, *present_values = onnx_session.run_session(session, inputs)
        onnx_session.check_outputs(file, logits, expected)
        inputs = [new_token, new_token, new_token, inputs[3][:0], *present_values]


def _example_inputs(module: _LanguageModel, config: Any) -> list[Tensor]:
    """Return inputs of two rows with two image tokens and three others, and an empty past."""
    ids = torch.tensor([[module.image_token_id] * 2 + [2, 3, 4]]).expand(2, -1).contiguous()
    features = torch.randn(4, config.hidden_size, generator=torch.Generator().manual_seed(0))
    empty = torch.zeros(2, 0, dtype=torch.long)
    empty_state = torch.zeros(2, config.num_key_value_heads, 0, config.head_dim)
    states = [empty_state] * (2 * config.num_hidden_layers)
    return [ids, torch.ones_like(ids), torch.zeros_like(ids), features, empty, empty, *states]


def _dynamic_axes(names: Sequence[str], size_name: str) -> list[onnx_session.DynamicAxes]:
    """Return the dynamic axes of mask, types, keys and values."""
    return [{0: "rows", 2 if "." in name else 1: size_name} for name in names]
