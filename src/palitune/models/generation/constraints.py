"""Constrained decoding with a task's grammar, in batches and with beams.

A grammar is compiled for one tokenizer. Labels are tokenized as in training, ` label` before the
end of the answer and ` label ; ` before the next box, and form one trie. This covers labels that
are prefixes of others, labels of several tokens, and labels whose tokens differ before a separator.

An object is begun only if it can be completed within the tokens left, and a separator is written
only if another object can follow, so that no answer is truncated. As a consequence, an answer close
to max_new_tokens may contain one object fewer than would fit, because the longest label must fit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch

from palitune.codec.boxes import OBJECT_SEPARATOR
from palitune.codec.grammar import ObjectGrammar
from palitune.codec.tokens import CODES_PER_MASK, NUM_CODES, NUM_LOC_BINS
from palitune.errors import ModelError
from palitune.models.generation.beam_search import limit_per_prompt
from palitune.models.generation.free_text_constraint import FreeTextState
from palitune.models.generation.label_trie import LabelState, TokenIndices, TrieNode

COORDINATES_PER_BOX = 4


class AutomatonState(NamedTuple):
    """Position in an answer."""

    num_objects: int = 0
    """Complete objects before the current one."""
    box_coordinates: tuple[int, ...] = ()
    """Bins y0 x0 y1 x1 of the current object, as far as they are generated."""
    num_mask_tokens: int = 0
    """`<seg>` tokens of the current object."""
    label_state: LabelState | None = None
    """Position in the label, once box and mask are complete."""

    @property
    def in_label(self) -> bool:
        """Whether the answer is in a label or in the separator after it."""
        return self.label_state is not None and not self.label_state.is_complete


@dataclass(frozen=True)
class GrammarAutomaton:
    """A grammar in the tokens of one tokenizer."""

    grammar: ObjectGrammar
    initial_label_state: LabelState
    """Start of every label."""
    first_loc_id: int
    """Id of `<loc0000>`; the others follow it, as `loading.check_tokenizer` ensures."""
    first_seg_id: int
    """Id of `<seg000>`; the others follow it."""
    eos_token_id: int

    @property
    def max_object_tokens(self) -> int:
        """Most tokens of one object and EOS; for free text, the tokens reserved for it."""
        label_tokens = self.initial_label_state.max_label_tokens
        return COORDINATES_PER_BOX + self._mask_tokens_per_object + label_tokens + 1

    @property
    def _mask_tokens_per_object(self) -> int:
        return CODES_PER_MASK if self.grammar.with_masks else 0

    def advance(self, state: AutomatonState | None, token: int) -> AutomatonState | None:
        """Return the state after a token; None if the answer has ended or left the grammar."""
        if state is None or token == self.eos_token_id:
            return None
        if state.label_state is not None:
            if state.in_label:
                label_state = state.label_state.advance(token)
                return None if label_state is None else state._replace(label_state=label_state)
            state = AutomatonState(num_objects=state.num_objects + 1)
        if len(state.box_coordinates) < COORDINATES_PER_BOX:
            coordinate = token - self.first_loc_id
            if not 0 <= coordinate < NUM_LOC_BINS:
                return None
            state = state._replace(box_coordinates=(*state.box_coordinates, coordinate))
        else:
            state = state._replace(num_mask_tokens=state.num_mask_tokens + 1)
        is_complete = (
            len(state.box_coordinates) == COORDINATES_PER_BOX
            and state.num_mask_tokens == self._mask_tokens_per_object
        )
        return state._replace(label_state=self.initial_label_state) if is_complete else state

    def allowed_tokens(self, state: AutomatonState | None, tokens_left: int) -> list[TokenIndices]:
        """Return the tokens that may come next; none after the end of the answer.

        `tokens_left` is the number of tokens that may still be generated.
        """
        if state is None:
            return []
        if state.in_label:
            return self._allowed_in_label(state, tokens_left)
        if state.label_state is not None:  # the separator is complete: a new box begins
            return [self._allowed_coordinates(())]
        if len(state.box_coordinates) == COORDINATES_PER_BOX:
            return [slice(self.first_seg_id, self.first_seg_id + NUM_CODES)]
        coordinates = self._allowed_coordinates(state.box_coordinates)
        if state == AutomatonState() and self.grammar.allow_empty and not self.grammar.min_objects:
            return [[self.eos_token_id], coordinates]
        return [coordinates]

    def _allowed_in_label(self, state: AutomatonState, tokens_left: int) -> list[TokenIndices]:
        assert state.label_state is not None
        num_objects, most = state.num_objects + 1, self.grammar.max_objects
        may_continue = most is None or num_objects < most
        separator_budget = tokens_left - 1 - self.max_object_tokens if may_continue else -1
        allowed = state.label_state.allowed_tokens(tokens_left, separator_budget)
        may_end = (
            num_objects >= self.grammar.min_objects or separator_budget < 0 or not any(allowed)
        )
        if state.label_state.can_end and may_end:
            return [*allowed, [self.eos_token_id]]
        return allowed

    def _allowed_coordinates(self, box_coordinates: tuple[int, ...]) -> slice:
        """Return the tokens of the next coordinate; y1 must exceed y0, and x1 must exceed x0."""
        if len(box_coordinates) < 2:
            return slice(self.first_loc_id, self.first_loc_id + NUM_LOC_BINS - 1)
        least = box_coordinates[len(box_coordinates) - 2] + 1
        return slice(self.first_loc_id + least, self.first_loc_id + NUM_LOC_BINS)


class GrammarLogitsProcessor:
    """Masks the tokens that the grammar of each prompt does not allow; None allows all.

    States are computed from the tokens, with a cache of the previous step, because beams are
    reordered between steps.
    """

    def __init__(
        self, automata: Sequence[GrammarAutomaton | None], max_new_tokens: int | Sequence[int]
    ) -> None:
        self.automata = automata
        self.max_new_tokens = limit_per_prompt(max_new_tokens, len(automata))
        self._state_cache: dict[tuple[int, tuple[int, ...]], AutomatonState | None] = {}

    def __call__(
        self,
        prompt_indices: Sequence[int],
        generated_ids: Sequence[Sequence[int]],
        scores: torch.Tensor,
    ) -> torch.Tensor:
        """Return the scores (sequences, vocabulary), minus infinity for tokens not allowed.

        prompt_indices and generated_ids: index of the prompt and tokens of each sequence.
        """
        masked = torch.full_like(scores, float("-inf"))
        states = {}
        for row, (prompt, ids) in enumerate(zip(prompt_indices, generated_ids, strict=True)):
            automaton = self.automata[prompt]
            if automaton is None:
                masked[row] = scores[row]
                continue
            key = (prompt, tuple(ids))
            states[key] = self._state_after(automaton, *key)
            tokens_left = self.max_new_tokens[prompt] - len(ids)
            for indices in automaton.allowed_tokens(states[key], tokens_left):
                masked[row, indices] = scores[row, indices]
        self._state_cache = states
        return masked

    def _state_after(
        self, automaton: GrammarAutomaton, prompt_index: int, generated_ids: tuple[int, ...]
    ) -> AutomatonState | None:
        previous = (prompt_index, generated_ids[:-1])
        if generated_ids and previous in self._state_cache:
            return automaton.advance(self._state_cache[previous], generated_ids[-1])
        state: AutomatonState | None = AutomatonState()
        for token in generated_ids:
            state = automaton.advance(state, token)
        return state


def build_logits_processor(
    tokenizer: Any, grammars: Sequence[ObjectGrammar | None], max_new_tokens: int | Sequence[int]
) -> GrammarLogitsProcessor:
    """Return the constraint for a batch of prompts, each with its own grammar and token limit.

    Raises ModelError if a single object does not fit into the limit of its prompt.
    """
    automata = [compile_grammar(tokenizer, grammar) if grammar else None for grammar in grammars]
    limits = limit_per_prompt(max_new_tokens, len(automata))
    for automaton, limit in zip(automata, limits, strict=True):
        if automaton and automaton.max_object_tokens > limit:
            raise ModelError(
                f"task.max_new_tokens must be at least {automaton.max_object_tokens}, the tokens "
                f"of one object, with evaluation.constrained_decoding=true, got {limit}."
            )
    return GrammarLogitsProcessor(automata, limits)


@lru_cache(maxsize=256)
def compile_grammar(tokenizer: Any, grammar: ObjectGrammar) -> GrammarAutomaton:
    """Compile a grammar for a tokenizer."""
    first_loc_id, first_seg_id = tokenizer.convert_tokens_to_ids(["<loc0000>", "<seg000>"])
    label_state: LabelState
    if grammar.labels is None:
        separator = _encode(tokenizer, f"<loc0000>{OBJECT_SEPARATOR}<loc0000>")[1:-1]
        label_state = FreeTextState.initial(tokenizer, tuple(separator))
    else:
        label_state = _label_trie(tokenizer, grammar)
    return GrammarAutomaton(
        grammar, label_state, first_loc_id, first_seg_id, tokenizer.eos_token_id
    )


def _label_trie(tokenizer: Any, grammar: ObjectGrammar) -> TrieNode:
    root = TrieNode()
    before = "<seg000>" if grammar.with_masks else "<loc0000>"
    for label in grammar.labels or ():
        text = f"{before} {label}" if label else before
        root.insert(_encode(tokenizer, text)[1:]).can_end = True
        with_separator = _encode(tokenizer, f"{text}{OBJECT_SEPARATOR}<loc0000>")[1:-1]
        root.insert(with_separator).is_complete = True
    root.finalize()
    return root


def _encode(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids
