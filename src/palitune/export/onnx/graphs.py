"""The three graphs that transformers.js runs: vision encoder, token embeddings, decoder with cache.

The decoder gets embeddings, not tokens, and no token types: new tokens attend to each other and to
all of the past. A prompt comes at once, so image and prefix attend to each other in both
directions; an answer comes token by token, so each token attends to its past. This is the prefix-LM
mask, as long as an answer is never given in several tokens at a time.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from palitune.export.onnx import session
from palitune.export.onnx.files import DECODER, EMBEDDINGS, VISION
from palitune.models import decoder_layers

_ROWS, _NEW = {0: "batch_size"}, {0: "batch_size", 1: "sequence_length"}


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


class _VisionEncoder(nn.Module):
    """pixel_values (images, 3, height, width) in [-1, 1] -> features (images, patches, hidden)."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.tower, self.projector = model.model.vision_tower, model.model.multi_modal_projector

    def forward(self, pixel_values: Tensor) -> Tensor:
        features: Tensor = self.projector(self.tower(pixel_values).last_hidden_state)
        return features


class _Embeddings(nn.Module):
    """input_ids (rows, new) -> inputs_embeds (rows, new, hidden), scaled as in the model."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.embeddings = model.get_input_embeddings()

    def forward(self, input_ids: Tensor) -> Tensor:
        embedded: Tensor = self.embeddings(input_ids)
        return embedded


class _Decoder(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.language_model, self.lm_head = model.model.language_model, model.lm_head
        self.softcap: float | None = getattr(
            self.language_model.config, "final_logit_softcapping", None
        )

    def forward(
        self, embeddings: Tensor, mask: Tensor, positions: Tensor, *past: Tensor
    ) -> tuple[Tensor, ...]:
        """New embeddings (rows, new, hidden) -> logits (rows, 1, vocabulary) of the next token.

        `mask` (rows, past + new) is 0 on padding; `positions` (rows, new) count from 1. `past`, and
        the outputs after the logits, are for every layer keys and values (rows, heads, tokens, head
        size).
        """
        num_past = past[0].shape[2]
        all_positions = mask.cumsum(dim=1)
        bool_masks = decoder_layers.masks_by_layer_type(
            self.language_model, torch.zeros_like(mask), mask, all_positions, num_past
        )
        masks = {
            layer_type: decoder_layers.to_additive_mask(mask_of_type, torch.float32)
            for layer_type, mask_of_type in bool_masks.items()
        }
        hidden = embeddings
        rotary = self.language_model.rotary_emb(hidden, position_ids=positions)
        cache = _PastKeyValues(past)
        layer_types = decoder_layers.layer_types(self.language_model)
        for layer, layer_type in zip(self.language_model.layers, layer_types, strict=True):
            hidden = layer(
                hidden,
                attention_mask=masks[layer_type],
                position_ids=positions,
                position_embeddings=rotary,
                past_key_values=cache,
            )
        return self._logits(hidden[:, -1:]), *cache.present

    def _logits(self, hidden: Tensor) -> Tensor:
        logits: Tensor = self.lm_head(self.language_model.norm(hidden))
        return torch.tanh(logits / self.softcap) * self.softcap if self.softcap else logits


def export_graphs(model: Any, folder: Path) -> None:
    """Write the three graphs of a float32 model with eager attention; each is verified.

    Args:
        model: Model of transformers.
        folder: Output folder, which is created.

    Raises:
        ModelError: ONNX Runtime computes other outputs.
    """
    _export_vision(model, folder / f"{VISION}.onnx")
    _export_embeddings(model, folder / f"{EMBEDDINGS}.onnx")
    _export_decoder(model, folder / f"{DECODER}.onnx")


def _export_vision(model: Any, file: Path) -> None:
    side = model.config.vision_config.image_size
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1
    module = _VisionEncoder(model).eval()
    session.export_module(
        module, file, {"pixel_values": (images, _ROWS)}, {"image_features": _ROWS}
    )
    _verify(module, file, [images[:1]])


def _export_embeddings(model: Any, file: Path) -> None:
    ids = torch.tensor([[2, 3, 4], [4, 3, 2]])
    module = _Embeddings(model).eval()
    session.export_module(module, file, {"input_ids": (ids, _NEW)}, {"inputs_embeds": _NEW})
    _verify(module, file, [ids[:1, :2]])


def _export_decoder(model: Any, file: Path) -> None:
    module = _Decoder(model).eval()
    config = model.config.text_config
    states = [f"{n}.{kind}" for n in range(config.num_hidden_layers) for kind in ("key", "value")]
    names = ["inputs_embeds", "attention_mask", "position_ids"]
    names += [f"past_key_values.{state}" for state in states]
    axes = [_NEW, {0: "batch_size", 1: "total_sequence_length"}, _NEW]
    axes += [{0: "batch_size", 2: "past_sequence_length"}] * len(states)
    example = _decoder_inputs(config, past=3, new=5)
    present = {0: "batch_size", 2: "total_sequence_length"}
    session.export_module(
        module,
        file,
        dict(zip(names, zip(example, axes, strict=True), strict=True)),
        {"logits": _ROWS, **{f"present.{state}": present for state in states}},
    )
    _verify(module, file, _decoder_inputs(config, past=0, new=6))
    _verify(module, file, _decoder_inputs(config, past=7, new=1))


def _decoder_inputs(config: Any, past: int, new: int) -> list[Tensor]:
    """Return random inputs of two rows; the first position of the second row is padding."""
    rng = torch.Generator().manual_seed(0)
    mask = torch.ones(2, past + new, dtype=torch.long)
    mask[1, 0] = 0
    state = (2, config.num_key_value_heads, past, config.head_dim)
    return [
        torch.randn(2, new, config.hidden_size, generator=rng),
        mask,
        mask.cumsum(dim=1)[:, past:].clamp(min=1),
        *(torch.randn(state, generator=rng) for _ in range(2 * config.num_hidden_layers)),
    ]


def _verify(module: nn.Module, file: Path, inputs: Sequence[Tensor]) -> None:
    """Raise ModelError if ONNX Runtime computes another first output than the module."""
    with torch.no_grad():
        outputs = module(*inputs)
    expected = outputs[0] if isinstance(outputs, tuple) else outputs
    session.check_outputs(
        file, session.run_session(session.open_session(file), inputs)[0], expected
    )
