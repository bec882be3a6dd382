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

from palitune.models import language
from palitune.models.attention import attend_to_prompt_and_own
from palitune.models.prefix_lm import PrefixLM
from palitune.models.search import Answer, Search

BLOCK = 64
"""Tokens of each answer that room is made for at a time."""
FEW = (2, 3)
"""Answers of which the next tokens are computed otherwise on a CPU."""


def write(network: PrefixLM, batch: Mapping[str, Tensor], search: Search) -> list[Answer]:
    """Have `search` choose tokens behind the prompts, which come from `Collator.prompt`, until
    every answer has ended."""
    decoder = Decoder(network, batch)
    logits = decoder.begin(batch)
    while True:
        answers, tokens = search.take(logits)
        if not tokens:
            return search.answers()
        logits = decoder.go_on(answers, tokens, search.beams)


class _FewRows(TorchFunctionMode):
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


class Decoder:
    """The keys and values of prompts and their answers, by layer."""

    def __init__(self, network: PrefixLM, batch: Mapping[str, Tensor]) -> None:
        self.network = network
        self.language: Any = network.model.language_model
        self.real = batch["attention_mask"].bool()
        self.positions = batch["attention_mask"].cumsum(dim=1)
        self.prompts: list[tuple[Tensor, Tensor]] = []
        self.own: list[Tensor] = []
        """Of each layer (keys and values, answers, key heads, room, width)."""
        self.each = 1
        """Answers to a prompt, which stand in a row."""
        self.written = 0
        """Tokens of each answer that are seen."""

    def update(self, key: Tensor, value: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """Keep what a layer makes of the prompts: a `palitune.models.language.Memory`."""
        self.prompts.append((key.contiguous(), value.contiguous()))
        return self.prompts[-1]

    def begin(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Run the prompts; return the scores of every next token: (prompts, vocabulary) float32."""
        rows, length = self.real.shape
        # Padding sees what is real, and nobody sees it: all of a prompt sees all of it.
        seen = self.real[:, None, None].expand(rows, 1, length, length)
        last = torch.zeros_like(self.real)
        last[:, -1] = True
        hidden = language.through_layers(
            self.language,
            self.network.model.embedded(batch),
            dict.fromkeys(("full_attention", "sliding_attention"), seen),
            self.positions,
            last,
            self,
        )
        return self.network.logits(hidden).float()

    def go_on(self, answers: Sequence[int], tokens: Sequence[int], each: int) -> Tensor:
        """Write `tokens` behind the present `answers`, of which some may be left out or split.

        Both are in the order of the prompts, `each` for every prompt that remains. Returns the
        scores of every next token: (answers, vocabulary) float32.
        """
        self._keep(answers, each)
        is_few = self.real.device.type == "cpu" and len(tokens) in FEW
        with _FewRows() if is_few else nullcontext():
            return self._logits(torch.tensor(tokens, device=self.real.device))

    def _logits(self, tokens: Tensor) -> Tensor:
        hidden = self.network.get_input_embeddings()(tokens)
        position = self.positions[:, -1].repeat_interleave(self.each)[:, None] + self.written + 1
        rotary = self.language.rotary_emb(hidden, position_ids=position)
        self.written += 1
        seen = self._seen()
        kinds = language.layer_kinds(self.language)
        for number, (layer, kind) in enumerate(zip(self.language.layers, kinds, strict=True)):
            attended = self._attend(number, layer, hidden, rotary, seen[kind])
            hidden = language.behind_attention(layer, hidden, attended)
        return self.network.logits(self.language.norm(hidden)).float()

    def _keep(self, answers: Sequence[int], each: int) -> None:
        """Let answers leave, or follow others of their prompt, and make room for a token."""
        prompts = [answer // self.each for answer in answers[::each]]
        if len(prompts) < len(self.real):
            index = torch.tensor(prompts, device=self.real.device)
            self.real, self.positions = self.real[index], self.positions[index]
            for number, (key, value) in enumerate(self.prompts):  # one layer is doubled at a time
                self.prompts[number] = key[index], value[index]
        if self.written == 0:
            self.own = [self._room(key, len(answers)) for key, _ in self.prompts]
        elif list(answers) != list(range(self.own[0].shape[1])):
            index = torch.tensor(answers, device=self.real.device)
            self.own = [own[:, index] for own in self.own]
        if self.own[0].shape[3] == self.written:
            for number, own in enumerate(self.own):
                more = self._room(self.prompts[number][0], len(answers))
                self.own[number] = torch.cat([own, more], dim=3)
        self.each = each

    def _room(self, key: Tensor, answers: int) -> Tensor:
        return key.new_empty(2, answers, key.shape[1], BLOCK, key.shape[3])

    def _seen(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Tell by kind of layer what of the prompt and of its own an answer's newest token sees."""
        index = torch.arange(self.written, device=self.real.device)
        prompt, own = self.real[:, None, None], torch.ones_like(index, dtype=torch.bool)
        seen = {"full_attention": (prompt, own[None, None, None])}
        if window := getattr(self.language.config, "sliding_window", None):
            behind = self.positions[:, -1:] + self.written - self.positions
            near = self.written - 1 - index < window
            seen["sliding_attention"] = (
                prompt & (behind < window)[:, None, None],
                near[None, None, None],
            )
        return seen

    def _attend(
        self,
        number: int,
        layer: Any,
        hidden: Tensor,
        rotary: tuple[Tensor, Tensor],
        seen: tuple[Tensor, Tensor],
    ) -> Tensor:
        """Run a layer's attention from the newest token of every answer: (answers, width)."""
        attention, asked = layer.self_attn, layer.input_layernorm(hidden)

        def heads(projected: Tensor) -> Tensor:
            return projected.view(len(hidden), -1, 1, attention.head_dim)

        query = language.rotate(heads(attention.q_proj(asked)), *rotary)
        own = self.own[number]
        own[0, :, :, self.written - 1] = language.rotate(
            heads(attention.k_proj(asked)), *rotary
        ).squeeze(2)
        own[1, :, :, self.written - 1] = heads(attention.v_proj(asked)).squeeze(2)
        key, value = own[:, :, :, : self.written]
        attended = attend_to_prompt_and_own(
            query,
            self.prompts[number],
            (key, value),
            seen,
            attention.scaling,
            getattr(attention, "attn_logit_softcapping", None),
        )
        projected: Tensor = attention.o_proj(attended)
        return projected
