"""Greedy generation of a batch that prompts join and leave between two steps.

Every prompt has its own start among the generated tokens of the batch. The cache slots before it
are masked, and its positions are those it has alone, so its answer does not depend on the others.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from palitune.codec.grammar import ObjectGrammar
from palitune.codec.json_fields import JsonGrammar
from palitune.models.generation.beam_search import GreedySearch, Hypothesis
from palitune.models.generation.constraints import (
    Automaton,
    GrammarLogitsProcessor,
    build_logits_processor,
)
from palitune.models.generation.generate import Generation, to_generation
from palitune.models.generation.kv_cache import BLOCK_SIZE, KVCacheDecoder
from palitune.models.modes import training_mode
from palitune.models.paligemma import PaliGemmaPrefixLM


class JoinableKVCache(KVCacheDecoder):
    """A cache to which the sequences of another one can be added; one sequence per prompt."""

    def __init__(self, network: PaliGemmaPrefixLM, batch: Mapping[str, Tensor]) -> None:
        super().__init__(network, batch)
        self.prompt_lengths: list[int] = batch["attention_mask"].sum(dim=1).tolist()
        self.starts = [0] * len(self.prompt_lengths)
        """For each sequence the slots before its first generated token."""
        self._starts = torch.zeros(len(self.starts), dtype=torch.int64, device=self.device)

    def join(self, other: "JoinableKVCache") -> None:
        """Append the sequences of a cache whose prompts ran, but which has no generated tokens."""
        length = max(*self.prompt_lengths, *other.prompt_lengths)

        def join_prompts(values: Tensor, added: Tensor, dim: int) -> Tensor:
            return torch.cat([_fit(values, length, dim), _fit(added, length, dim)])

        self.prompt_mask = join_prompts(self.prompt_mask, other.prompt_mask, 1)
        self.prompt_positions = join_prompts(self.prompt_positions, other.prompt_positions, 1)
        for number, (mine, added) in enumerate(zip(self.prompt_kv, other.prompt_kv, strict=True)):
            key, value = (join_prompts(*pair, 2) for pair in zip(mine, added, strict=True))
            self.prompt_kv[number] = key, value
        self.generated_kv = [
            # Zeros, because masked slots are multiplied by a weight of zero.
            torch.cat([kv, kv.new_zeros(2, len(other.starts), *kv.shape[2:])], dim=1)
            for kv in self.generated_kv
        ]
        self.prompt_lengths += other.prompt_lengths
        self.starts += [self.num_generated] * len(other.starts)
        self._starts = torch.tensor(self.starts, device=self.device)

    def _reorder_cache(self, rows: Sequence[int], index: Tensor, beams_per_prompt: int) -> None:
        if list(rows) != list(range(len(self.starts))):
            self.starts = [self.starts[row] for row in rows]
            self.prompt_lengths = [self.prompt_lengths[row] for row in rows]
            self._starts = self._starts[index]
        super()._reorder_cache(rows, index, beams_per_prompt)
        if min(self.starts) >= BLOCK_SIZE:
            self._drop_first_block()

    def _drop_first_block(self) -> None:
        """Free slots that no sequence uses any more."""
        self.generated_kv = [kv[:, :, :, BLOCK_SIZE:].clone() for kv in self.generated_kv]
        self.num_generated -= BLOCK_SIZE
        self.starts = [start - BLOCK_SIZE for start in self.starts]
        self._starts = self._starts - BLOCK_SIZE

    def _own_counts(self, num_generated: int | Tensor) -> int | Tensor:
        return num_generated - self._starts

    def _masks_by_layer_type(self, num_generated: int | Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        slots = torch.arange(self._num_slots(), device=self.device)
        own = (slots >= self._starts[:, None])[:, None, None]
        masks = super()._masks_by_layer_type(num_generated)
        return {kind: (prompt, generated & own) for kind, (prompt, generated) in masks.items()}


def _fit(values: Tensor, length: int, dim: int) -> Tensor:
    """Cut or extend left-padded values to a length."""
    missing = length - values.shape[dim]
    if missing <= 0:
        return values.narrow(dim, -missing, length)
    return F.pad(values, (0, 0) * (values.ndim - 1 - dim) + (missing, 0))


@dataclass(frozen=True)
class Prompt:
    """How the answer to a prompt is generated."""

    max_new_tokens: int
    grammar: ObjectGrammar | JsonGrammar | None = None


@dataclass(frozen=True)
class Step:
    """New tokens of one step."""

    tokens: dict[int, int]
    """The new token of each prompt, EOS included."""
    finished: dict[int, Generation]
    """Answers that this step completed."""


class RunningBatch:
    """Prompts whose answers are generated together; a context manager, for one thread.

    A prompt has a number as long as it is in the batch. The LoRA weights must not change inside.

    Args:
        network: PaliGemmaPrefixLM, possibly inside a PEFT model.
        tokenizer: Tokenizer of the model.
    """

    def __init__(self, network: Any, tokenizer: Any) -> None:
        self._network, self._tokenizer = network, tokenizer
        self._model = next(m for m in network.modules() if isinstance(m, PaliGemmaPrefixLM))
        self._search = _GrowingSearch(tokenizer.eos_token_id)
        self._cache: JoinableKVCache | None = None
        self._next: tuple[list[int], list[int]] = [], []
        """For each unfinished prompt its row in the cache, and the token that is to be appended."""
        self._joining: list[tuple[list[int], JoinableKVCache, Tensor]] = []
        """Numbers, cache and logits of prompts that join in the next step."""
        self._stack = ExitStack()

    def __enter__(self) -> "RunningBatch":
        from palitune.models.adapters.fast_lora import cached_lora_weights

        self._stack.enter_context(training_mode(self._network, False))
        self._stack.enter_context(cached_lora_weights(self._network))
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def join(self, batch: Mapping[str, Tensor], prompts: Sequence[Prompt]) -> list[int]:
        """Run prompts, which join in the next step; return their numbers.

        Args:
            batch: Left-padded prompts from `Collator.collate_prompts`.
            prompts: Limit and grammar of each.

        Raises:
            ModelError: A single object of a grammar does not fit into the limit of its prompt.
        """
        limits = [prompt.max_new_tokens for prompt in prompts]
        grammars = [prompt.grammar for prompt in prompts]
        automata = build_logits_processor(self._tokenizer, grammars, limits).automata
        with torch.inference_mode(), self._model.autocast():
            inputs = {key: value.to(self._model.device) for key, value in batch.items()}
            cache = JoinableKVCache(self._model, inputs)
            logits = cache.prefill(inputs)
        numbers = self._search.reserve(limits, automata)
        self._joining.append((numbers, cache, logits))
        return numbers

    def leave(self, number: int) -> None:
        """Give up an unfinished prompt that took part in a step."""
        place = self._search.remove(number)
        for values in self._next:
            del values[place]

    def step(self) -> Step:
        """Generate one token of every prompt; there must be one."""
        with torch.inference_mode(), self._model.autocast():
            logits = self._next_logits()
            numbers = list(self._search.open_prompts)
            self._next = self._search.select(logits)
        hypotheses = {number: self._search.hypotheses[number] for number in numbers}
        finished = [number for number in numbers if number not in self._search.open_prompts]
        self._search.free += finished
        if not self._next[0]:
            self._cache = None
        return Step(
            tokens={number: item.token_ids[-1] for number, item in hypotheses.items()},
            finished={n: to_generation(self._tokenizer, hypotheses[n]) for n in finished},
        )

    def _next_logits(self) -> Tensor:
        """Append the selected tokens and add the prompts that join."""
        rows, tokens = self._next
        logits: list[Tensor] = []
        if rows:
            assert self._cache is not None
            logits.append(self._cache.step(rows, tokens, 1))
        else:
            self._cache = None
        for numbers, cache, prompt_logits in self._joining:
            if self._cache is None:
                self._cache = cache
            else:
                self._cache.join(cache)
            self._search.open_prompts += numbers
            logits.append(prompt_logits)
        self._joining = []
        return torch.cat(logits)


class _GrowingSearch(GreedySearch):
    """Greedy search over prompts that come and go. The numbers of finished ones are used again."""

    def __init__(self, eos_token_id: int) -> None:
        self.limits: list[int] = []
        self.automata: list[Automaton | None] = []
        super().__init__(0, eos_token_id, self.limits)
        self.free: list[int] = []
        """Numbers that no prompt has."""
        self._constraint = GrammarLogitsProcessor(self.automata, self.limits)

    def reserve(self, limits: Sequence[int], automata: Sequence[Automaton | None]) -> list[int]:
        """Return numbers for prompts, which are not selected for before they are opened."""
        numbers = []
        for limit, automaton in zip(limits, automata, strict=True):
            if not self.free:
                self.free.append(len(self.limits))
                self.limits.append(0)
                self.automata.append(None)
                self.hypotheses.append(Hypothesis())
            number = self.free.pop()
            self.limits[number], self.automata[number] = limit, automaton
            self.hypotheses[number] = Hypothesis()
            numbers.append(number)
        return numbers

    def remove(self, number: int) -> int:
        """Remove an open prompt and return its place."""
        place = self.open_prompts.index(number)
        del self.open_prompts[place]
        self.free.append(number)
        return place

    def select(self, logits: Tensor) -> tuple[list[int], list[int]]:
        is_constrained = any(self.automata[number] for number in self.open_prompts)
        self.logits_processor = self._constraint if is_constrained else None
        return super().select(logits)
