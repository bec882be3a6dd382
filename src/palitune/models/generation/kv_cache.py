"""Answers to a batch of prompts under way: what the language model has seen, and one token more.

The prompts are run once; of their last layer only keys and values are made, and the rest at the
last position alone. Their keys and values are never copied while tokens are added: those of the
answers lie apart, in blocks, so that the beams of a prompt share it and only the few tokens that
they have written are reordered. Answers that have ended leave the batch.
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from palitune.models import decoder_layers
from palitune.models.attention import shared_prefix_attention
from palitune.models.generation.beam_search import DecodingStrategy, Hypothesis
from palitune.models.paligemma import PaliGemmaPrefixLM

BLOCK_SIZE = 64
"""Tokens of each answer that room is made for at a time."""
SMALL_BATCH_SIZES = (2, 3)
"""Answers of which the next tokens are computed otherwise on a CPU."""


def generate_tokens(
    network: PaliGemmaPrefixLM, batch: Mapping[str, Tensor], strategy: DecodingStrategy
) -> list[Hypothesis]:
    """Have `search` choose tokens behind the prompts, which come from `Collator.prompt`, until
    every answer has ended."""
    decoder = KVCacheDecoder(network, batch)
    logits = decoder.prefill(batch)
    while True:
        answers, tokens = strategy.select(logits)
        if not tokens:
            return strategy.finished()
        logits = decoder.step(answers, tokens, strategy.num_beams)


class _TransposedLinear(TorchFunctionMode):
    """Multiplies weights by a few rows instead of the rows by the weights.

    MKL takes a third of the time then; of all other numbers of rows it is no slower as it is
    (torch 2.13 on an AMD EPYC).
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is F.linear and args[0].dim() == 2 and args[2:] in ((), (None,)):
            rows, weight = args[:2]
            return (weight @ rows.t()).t().contiguous()
        return func(*args, **kwargs or {})


class KVCacheDecoder:
    """The keys and values of prompts and their answers, by layer."""

    def __init__(self, network: PaliGemmaPrefixLM, batch: Mapping[str, Tensor]) -> None:
        self.network = network
        self.language_model: Any = network.model.language_model
        self.prompt_mask = batch["attention_mask"].bool()
        self.prompt_positions = batch["attention_mask"].cumsum(dim=1)
        self.prompt_kv: list[tuple[Tensor, Tensor]] = []
        self.generated_kv: list[Tensor] = []
        """Of each layer (keys and values, answers, key heads, room, width)."""
        self.beams_per_prompt = 1
        """Answers to a prompt, which stand in a row."""
        self.num_generated = 0
        """Tokens of each answer that are seen."""

    def update(self, key: Tensor, value: Tensor, layer_idx: int) -> tuple[Tensor, Tensor]:
        """Keep what a layer makes of the prompts: a `palitune.models.decoder_layers.Memory`."""
        self.prompt_kv.append((key.contiguous(), value.contiguous()))
        return self.prompt_kv[-1]

    def prefill(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Run the prompts; return the scores of every next token: (prompts, vocabulary) float32."""
        rows, length = self.prompt_mask.shape
        # Padding sees what is real, and nobody sees it: all of a prompt sees all of it.
        seen = self.prompt_mask[:, None, None].expand(rows, 1, length, length)
        last = torch.zeros_like(self.prompt_mask)
        last[:, -1] = True
        hidden = decoder_layers.run_decoder(
            self.language_model,
            self.network.model.input_embeddings(batch),
            dict.fromkeys(("full_attention", "sliding_attention"), seen),
            self.prompt_positions,
            last,
            self,
        )
        return self.network.compute_logits(hidden).float()

    def step(
        self, beam_indices: Sequence[int], tokens: Sequence[int], beams_per_prompt: int
    ) -> Tensor:
        """Write `tokens` behind the present `answers`, of which some may be left out or split.

        Both are in the order of the prompts, `each` for every prompt that remains. Returns the
        scores of every next token: (answers, vocabulary) float32.
        """
        self._reorder_cache(beam_indices, beams_per_prompt)
        is_few = self.prompt_mask.device.type == "cpu" and len(tokens) in SMALL_BATCH_SIZES
        with _TransposedLinear() if is_few else nullcontext():
            return self._next_token_logits(torch.tensor(tokens, device=self.prompt_mask.device))

    def _next_token_logits(self, tokens: Tensor) -> Tensor:
        hidden = self.network.get_input_embeddings()(tokens)
        position = (
            self.prompt_positions[:, -1].repeat_interleave(self.beams_per_prompt)[:, None]
            + self.num_generated
            + 1
        )
        rotary = self.language_model.rotary_emb(hidden, position_ids=position)
        self.num_generated += 1
        seen = self._masks_by_layer_type()
        kinds = decoder_layers.layer_types(self.language_model)
        for number, (layer, kind) in enumerate(zip(self.language_model.layers, kinds, strict=True)):
            attended = self._attend(number, layer, hidden, rotary, seen[kind])
            hidden = decoder_layers.mlp_block(layer, hidden, attended)
        return self.network.compute_logits(self.language_model.norm(hidden)).float()

    def _reorder_cache(self, beam_indices: Sequence[int], beams_per_prompt: int) -> None:
        """Let answers leave, or follow others of their prompt, and make room for a token."""
        prompts = [answer // self.beams_per_prompt for answer in beam_indices[::beams_per_prompt]]
        if len(prompts) < len(self.prompt_mask):
            index = torch.tensor(prompts, device=self.prompt_mask.device)
            self.prompt_mask, self.prompt_positions = (
                self.prompt_mask[index],
                self.prompt_positions[index],
            )
            for number, (key, value) in enumerate(self.prompt_kv):  # one layer is doubled at a time
                self.prompt_kv[number] = key[index], value[index]
        if self.num_generated == 0:
            self.generated_kv = [
                self._allocate_block(key, len(beam_indices)) for key, _ in self.prompt_kv
            ]
        elif list(beam_indices) != list(range(self.generated_kv[0].shape[1])):
            index = torch.tensor(beam_indices, device=self.prompt_mask.device)
            self.generated_kv = [own[:, index] for own in self.generated_kv]
        if self.generated_kv[0].shape[3] == self.num_generated:
            for number, own in enumerate(self.generated_kv):
                more = self._allocate_block(self.prompt_kv[number][0], len(beam_indices))
                self.generated_kv[number] = torch.cat([own, more], dim=3)
        self.beams_per_prompt = beams_per_prompt

    def _allocate_block(self, key: Tensor, num_sequences: int) -> Tensor:
        return key.new_empty(2, num_sequences, key.shape[1], BLOCK_SIZE, key.shape[3])

    def _masks_by_layer_type(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Tell by kind of layer what of the prompt and of its own an answer's newest token sees."""
        index = torch.arange(self.num_generated, device=self.prompt_mask.device)
        prompt, own = self.prompt_mask[:, None, None], torch.ones_like(index, dtype=torch.bool)
        seen = {"full_attention": (prompt, own[None, None, None])}
        if window := getattr(self.language_model.config, "sliding_window", None):
            behind = self.prompt_positions[:, -1:] + self.num_generated - self.prompt_positions
            near = self.num_generated - 1 - index < window
            seen["sliding_attention"] = (
                prompt & (behind < window)[:, None, None],
                near[None, None, None],
            )
        return seen

    def _attend(
        self,
        layer_idx: int,
        layer: Any,
        hidden: Tensor,
        position_embeddings: tuple[Tensor, Tensor],
        masks: tuple[Tensor, Tensor],
    ) -> Tensor:
        """Run a layer's attention from the newest token of every answer: (answers, width)."""
        attention, asked = layer.self_attn, layer.input_layernorm(hidden)

        def heads(projected: Tensor) -> Tensor:
            return projected.view(len(hidden), -1, 1, attention.head_dim)

        query = decoder_layers.apply_rope(heads(attention.q_proj(asked)), *position_embeddings)
        own = self.generated_kv[layer_idx]
        own[0, :, :, self.num_generated - 1] = decoder_layers.apply_rope(
            heads(attention.k_proj(asked)), *position_embeddings
        ).squeeze(2)
        own[1, :, :, self.num_generated - 1] = heads(attention.v_proj(asked)).squeeze(2)
        key, value = own[:, :, :, : self.num_generated]
        attended = shared_prefix_attention(
            query,
            self.prompt_kv[layer_idx],
            (key, value),
            masks,
            attention.scaling,
            getattr(attention, "attn_logit_softcapping", None),
        )
        projected: Tensor = attention.o_proj(attended)
        return projected
