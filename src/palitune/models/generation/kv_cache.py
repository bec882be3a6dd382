"""Generation with a key-value cache that the beams of a prompt share.

The prompts run once. Their keys and values are never copied while tokens are generated: those of
generated tokens are stored separately, in blocks, so that only these are reordered between beams.
Finished sequences leave the batch.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from palitune.models import decoder_layers
from palitune.models.attention import shared_prefix_attention
from palitune.models.generation.beam_search import DecodingStrategy, Hypothesis
from palitune.models.paligemma import PaliGemmaPrefixLM

BLOCK_SIZE = 64
"""Tokens per sequence for which memory is allocated at a time."""


def generate_tokens(
    network: PaliGemmaPrefixLM,
    batch: Mapping[str, Tensor],
    strategy: DecodingStrategy,
    decoder_class: "type[KVCacheDecoder] | None" = None,
) -> list[Hypothesis]:
    """Generate until all sequences are finished.

    Args:
        network: The model.
        batch: Prompts from `Collator.collate_prompts`, on the device of the model.
        strategy: Selects the tokens.
        decoder_class: Class of the cache; None: `KVCacheDecoder`.
    """
    decoder = (decoder_class or KVCacheDecoder)(network, batch)
    logits = decoder.prefill(batch)
    while True:
        rows, tokens = strategy.select(logits)
        if not tokens:
            return strategy.finished()
        logits = decoder.step(rows, tokens, strategy.num_beams)


class KVCacheDecoder:
    """Keys and values of prompts and generated tokens, by layer."""

    def __init__(self, network: PaliGemmaPrefixLM, batch: Mapping[str, Tensor]) -> None:
        self.network = network
        self.language_model: Any = network.model.language_model
        self.device = batch["attention_mask"].device
        self.prompt_mask = batch["attention_mask"].bool()
        self.prompt_positions = batch["attention_mask"].cumsum(dim=1)
        self.prompt_kv: list[tuple[Tensor, Tensor]] = []
        """Per layer keys and values, (prompts, key heads, tokens, width) each."""
        self.generated_kv: list[Tensor] = []
        """Per layer (keys and values, sequences, key heads, allocated tokens, width)."""
        self.beams_per_prompt = 1
        """Sequences per prompt, which are adjacent."""
        self.num_generated = 0
        """Generated tokens per sequence in the cache."""

    def update(self, key: Tensor, value: Tensor, layer_idx: int) -> tuple[Tensor, Tensor]:
        """Store keys and values of the prompts (see `decoder_layers.KVCacheProtocol`)."""
        self.prompt_kv.append((key.contiguous(), value.contiguous()))
        return self.prompt_kv[-1]

    def prefill(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Run the prompts; return the logits of the next token: (prompts, vocabulary) float32."""
        rows, length = self.prompt_mask.shape
        # All tokens attend to all real tokens of their prompt; the outputs of padding are not used.
        mask = self.prompt_mask[:, None, None].expand(rows, 1, length, length)
        hidden = decoder_layers.run_decoder(
            self.language_model,
            self.network.model.input_embeddings(batch),
            dict.fromkeys(decoder_layers.LAYER_TYPES, mask),
            self.prompt_positions,
            decoder_layers.KeptPositions.last(rows, length, self.device),
            self,
        )
        return self.network.compute_logits(hidden).float()

    def step(self, rows: Sequence[int], tokens: Sequence[int], beams_per_prompt: int) -> Tensor:
        """Append one token to each sequence.

        Args:
            rows: For each new sequence the current sequence that it continues; in the order of the
                prompts, of which some may be left out.
            tokens: Token of each new sequence.
            beams_per_prompt: New sequences per remaining prompt.

        Returns:
            The logits of the next token, (sequences, vocabulary) float32.
        """
        # One copy that waits for nothing.
        on_device = torch.tensor([tokens, rows]).to(self.device, non_blocking=True)
        self._reorder_cache(rows, on_device[1], beams_per_prompt)
        self.num_generated += 1
        return self._next_logits(on_device[0], self.num_generated)

    def _next_logits(self, tokens: Tensor, num_generated: int | Tensor) -> Tensor:
        """Run the newest token of every sequence; `num_generated` counts it."""
        hidden = self.network.get_input_embeddings()(tokens)
        last_position = self.prompt_positions[:, -1].repeat_interleave(self.beams_per_prompt)
        rotary = self.language_model.rotary_emb(
            hidden, position_ids=(last_position + self._own_counts(num_generated))[:, None]
        )
        masks = self._masks_by_layer_type(num_generated)
        kinds = decoder_layers.layer_types(self.language_model)
        for number, (layer, kind) in enumerate(zip(self.language_model.layers, kinds, strict=True)):
            attended = self._attend(number, layer, hidden, rotary, masks[kind])
            hidden = decoder_layers.mlp_block(layer, hidden, attended)
        return self.network.compute_logits(self.language_model.norm(hidden)).float()

    def _reorder_cache(self, rows: Sequence[int], index: Tensor, beams_per_prompt: int) -> None:
        """Select the sequences to continue, and allocate memory for one more token.

        `index` is `rows` on the device.
        """
        prompts = [row // self.beams_per_prompt for row in rows[::beams_per_prompt]]
        if len(prompts) < len(self.prompt_mask):
            kept = index[::beams_per_prompt] // self.beams_per_prompt
            self.prompt_mask = self.prompt_mask[kept]
            self.prompt_positions = self.prompt_positions[kept]
            for number, (key, value) in enumerate(self.prompt_kv):  # copies one layer at a time
                self.prompt_kv[number] = key[kept], value[kept]
        if self.num_generated == 0:
            self.generated_kv = [self._allocate_block(key, len(rows)) for key, _ in self.prompt_kv]
        elif list(rows) != list(range(self.generated_kv[0].shape[1])):
            self.generated_kv = [kv[:, index] for kv in self.generated_kv]
        if self.generated_kv[0].shape[3] == self.num_generated:
            for number, kv in enumerate(self.generated_kv):
                block = self._allocate_block(self.prompt_kv[number][0], len(rows))
                self.generated_kv[number] = torch.cat([kv, block], dim=3)
        self.beams_per_prompt = beams_per_prompt

    def _allocate_block(self, key: Tensor, num_sequences: int) -> Tensor:
        return key.new_empty(2, num_sequences, key.shape[1], BLOCK_SIZE, key.shape[3])

    def _masks_by_layer_type(self, num_generated: int | Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """Return the masks of the newest token over the prompt and over the generated tokens."""
        index = torch.arange(self._num_slots(), device=self.device)
        prompt_mask = self.prompt_mask[:, None, None]
        generated_mask = (index < num_generated)[None, None, None]
        masks = {"full_attention": (prompt_mask, generated_mask)}
        if window := getattr(self.language_model.config, "sliding_window", None):
            position = self.prompt_positions[:, -1] + self._own_counts(num_generated)
            distance = position[:, None] - self.prompt_positions
            near = num_generated - 1 - index < window
            masks["sliding_attention"] = (
                prompt_mask & (distance < window)[:, None, None],
                generated_mask & near[None, None, None],
            )
        return masks

    def _own_counts(self, num_generated: int | Tensor) -> int | Tensor:
        """Return the generated tokens of each sequence: one number, or (sequences,)."""
        return num_generated

    def _num_slots(self) -> int:
        """Return the number of generated tokens that are attended to."""
        return self.num_generated

    def _store(self, layer_idx: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store the newest token, (sequences, key heads, width) each; return those of all."""
        kv = self.generated_kv[layer_idx]
        kv[0, :, :, self.num_generated - 1] = key
        kv[1, :, :, self.num_generated - 1] = value
        all_keys, all_values = kv[:, :, :, : self.num_generated]
        return all_keys, all_values

    def _attend(
        self,
        layer_idx: int,
        layer: Any,
        hidden: Tensor,
        position_embeddings: tuple[Tensor, Tensor],
        masks: tuple[Tensor, Tensor],
    ) -> Tensor:
        """Run a layer's attention for the newest token of every sequence: (sequences, width)."""
        attention, normed = layer.self_attn, layer.input_layernorm(hidden)

        def split_heads(projected: Tensor) -> Tensor:
            return projected.view(len(hidden), -1, 1, attention.head_dim)

        def rotated(projected: Tensor) -> Tensor:
            return decoder_layers.apply_rope(split_heads(projected), *position_embeddings)

        query = rotated(attention.q_proj(normed))
        generated_kv = self._store(
            layer_idx,
            rotated(attention.k_proj(normed)).squeeze(2),
            split_heads(attention.v_proj(normed)).squeeze(2),
        )
        attended = shared_prefix_attention(
            query,
            self.prompt_kv[layer_idx],
            generated_kv,
            masks,
            attention.scaling,
            getattr(attention, "attn_logit_softcapping", None),
        )
        output: Tensor = attention.o_proj(attended)
        return output
