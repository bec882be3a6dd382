"""The language model of an exported folder as ONNX.

One graph serves prompt and answer. It is given what the processor makes of the new tokens
(`input_ids`, `attention_mask`, and `token_type_ids`: 0 on image and prompt, 1 on the answer), the
features of the image tokens among them, and as `past.*` what it returned as `present.*` for the
tokens before: their mask, types, keys and values. It returns the logits of the next token. Who sees
whom follows from the types, as in training.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from palitune.export import onnx_session
from palitune.models import decoder_layers


class _PastKeyValues:
    """Keys and values by layer, to which those of new tokens are added."""

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

        past, and present behind the logits: mask and types (rows, tokens), and of every layer keys
        and values (rows, heads, tokens, width).
        """
        since = past[0].shape[1]
        mask, types = torch.cat([past[0], mask], dim=1), torch.cat([past[1], types], dim=1)
        positions = mask.cumsum(dim=1)
        seen = decoder_layers.masks_by_layer_type(
            self.language_model, types, mask, positions, since
        )
        masks = {
            kind: decoder_layers.to_additive_mask(one, torch.float32) for kind, one in seen.items()
        }
        hidden, positions = self._input_embeddings(ids, features), positions[:, since:]
        rotary = self.language_model.rotary_emb(hidden, position_ids=positions)
        memory = _PastKeyValues(past[2:])
        kinds = decoder_layers.layer_types(self.language_model)
        for layer, kind in zip(self.language_model.layers, kinds, strict=True):
            hidden = layer(
                hidden,
                attention_mask=masks[kind],
                position_ids=positions,
                position_embeddings=rotary,
                past_key_values=memory,
            )
        return self._logits(hidden[:, -1]), mask, types, *memory.present

    def _input_embeddings(self, ids: Tensor, features: Tensor) -> Tensor:
        """Put the n-th feature in the place of the n-th image token; there may be none."""
        is_image = ids == self.image_token_id
        number = is_image.long().flatten().cumsum(dim=0).view_as(ids)
        table = torch.cat([torch.zeros(1, features.shape[1]), features])
        seen = table[torch.where(is_image, number, 0)]
        return torch.where(
            is_image[:, :, None], seen, self.language_model.get_input_embeddings()(ids)
        )

    def _logits(self, hidden: Tensor) -> Tensor:
        # This way round ONNX Runtime need not turn the largest matrix of all for every token.
        logits = (self.lm_head.weight @ self.language_model.norm(hidden).t()).t()
        return torch.tanh(logits / self.softcap) * self.softcap if self.softcap else logits


def export_language(model: Any, file: Path) -> None:
    """Write that of a plain model with eager attention in float32, for any rows and tokens.

    Raises ModelError where ONNX Runtime computes other logits.
    """
    module = _LanguageModel(model).eval()
    layers = range(len(module.language_model.layers))
    states = [f"{layer}.{kind}" for layer in layers for kind in ("key", "value")]
    kept = ["attention_mask", "token_type_ids", *states]
    prompt = _example_inputs(module, model.config.text_config)
    tokens = {0: "rows", 1: "new"}
    axes = [tokens, tokens, tokens, {0: "image tokens"}, *_dynamic_axes(kept, "past")]
    names = ["input_ids", *kept[:2], "image_features", *(f"past.{name}" for name in kept)]
    present = dict(
        zip((f"present.{name}" for name in kept), _dynamic_axes(kept, "seen"), strict=True)
    )
    session = onnx_session.export_module(
        module,
        file,
        dict(zip(names, zip(prompt, axes, strict=True), strict=True)),
        {"logits": {0: "rows"}, **present},
    )
    one = torch.ones(2, 1, dtype=torch.long)
    told = prompt
    for _ in range(2):  # the prompt, then a token of each answer
        with torch.no_grad():
            expected = module(*told)[0]
        logits, *seen = onnx_session.run_session(session, told)
        onnx_session.check_outputs(file, logits, expected)
        told = [one, one, one, told[3][:0], *seen]


def _example_inputs(module: _LanguageModel, config: Any) -> list[Tensor]:
    """Make inputs: two rows of two image tokens and three others, nothing before them."""
    ids = torch.tensor([[module.image_token_id] * 2 + [2, 3, 4]]).expand(2, -1).contiguous()
    features = torch.randn(4, config.hidden_size, generator=torch.Generator().manual_seed(0))
    none = torch.zeros(2, 0, dtype=torch.long)
    state = torch.zeros(2, config.num_key_value_heads, 0, config.head_dim)
    states = [state] * (2 * config.num_hidden_layers)
    return [ids, torch.ones_like(ids), torch.zeros_like(ids), features, none, none, *states]


def _dynamic_axes(names: Sequence[str], size_name: str) -> list[onnx_session.DynamicAxes]:
    """Name the sizes of what is kept: of mask and types, keys and values."""
    return [{0: "rows", 2 if "." in name else 1: size_name} for name in names]
