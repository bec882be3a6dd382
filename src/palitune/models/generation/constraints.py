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
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch

from palitune.codec.boxes import OBJECT_SEPARATOR
from palitune.codec.grammar import ObjectGrammar
from palitune.codec.json_fields import JsonGrammar
from palitune.codec.text_tokens import TextTokenizer
from palitune.codec.tokens import CODES_PER_MASK, NUM_CODES, NUM_LOC_BINS
from palitune.errors import ModelError
from palitune.models.generation.beam_search import limit_per_prompt
from palitune.models.generation.free_text_constraint import FreeTextState
from palitune.models.generation.json_constraint import (
    JsonAutomaton,
    JsonState,
    compile_json_grammar,
)
from palitune.models.generation.label_trie import (
    LabelState,
    TokenIndices,
    TokenMask,
    TrieNode,
)

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

    initial_state: ClassVar[AutomatonState] = AutomatonState()

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
            return [range(self.first_seg_id, self.first_seg_id + NUM_CODES)]
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

    def _allowed_coordinates(self, box_coordinates: tuple[int, ...]) -> range:
        """Return the tokens of the next coordinate; y1 must exceed y0, and x1 must exceed x0."""
        if len(box_coordinates) < 2:
            return range(self.first_loc_id, self.first_loc_id + NUM_LOC_BINS - 1)
        least = box_coordinates[len(box_coordinates) - 2] + 1
        return range(self.first_loc_id + least, self.first_loc_id + NUM_LOC_BINS)


Automaton = GrammarAutomaton | JsonAutomaton
State = AutomatonState | JsonState


class GrammarLogitsProcessor:
    """Masks the tokens that the grammar of each prompt does not allow; None allows all.

    States are computed from the tokens, with a cache of the previous step, because beams are
    reordered between steps.
    """

    def __init__(
        self, automata: Sequence[Automaton | None], max_new_tokens: int | Sequence[int]
    ) -> None:
        self.automata = automata
        self.max_new_tokens = limit_per_prompt(max_new_tokens, len(automata))
        self._state_cache: dict[tuple[int, tuple[int, ...]], State | None] = {}

    def __call__(
        self,
        prompt_indices: Sequence[int],
        generated_ids: Sequence[Sequence[int]],
        scores: torch.Tensor,
    ) -> torch.Tensor:
        """Return the scores (sequences, vocabulary), minus infinity for tokens not allowed.

        prompt_indices and generated_ids: index of the prompt and tokens of each sequence.
        """
        allowed: list[list[TokenIndices] | None] = []
        states = {}
        for prompt, ids in zip(prompt_indices, generated_ids, strict=True):
            automaton = self.automata[prompt]
            if automaton is None:
                allowed.append(None)
                continue
            key = (prompt, tuple(ids))
            states[key] = self._state_after(automaton, *key)
            tokens_left = self.max_new_tokens[prompt] - len(ids)
            state: Any = states[key]
            allowed.append(automaton.allowed_tokens(state, tokens_left))
        self._state_cache = states
        return mask_scores(scores, allowed)

    def _state_after(
        self, automaton: Any, prompt_index: int, generated_ids: tuple[int, ...]
    ) -> State | None:
        previous = (prompt_index, generated_ids[:-1])
        if generated_ids and previous in self._state_cache:
            following: State | None = automaton.advance(
                self._state_cache[previous], generated_ids[-1]
            )
            return following
        state: State | None = automaton.initial_state
        for token in generated_ids:
            state = automaton.advance(state, token)
        return state


def mask_scores(
    scores: torch.Tensor, allowed: Sequence[Sequence[TokenIndices] | None]
) -> torch.Tensor:
    """Return the scores (sequences, vocabulary), minus infinity for tokens not allowed.

    All ids of a step are copied to the device at once; masks of large sets are there already.

    Args:
        scores: (sequences, vocabulary).
        allowed: For each sequence sets of tokens, of which only one is a mask; None allows all.
    """
    vocab_size = scores.shape[1]
    ids: list[np.ndarray] = []
    rows_of_mask: dict[TokenMask | None, list[int]] = {}
    for row, pieces in enumerate(allowed):
        for piece in [None] if pieces is None else pieces:
            if piece is None or isinstance(piece, TokenMask):
                rows_of_mask.setdefault(piece, []).append(row)
            else:
                ids.append(row * vocab_size + np.array(piece, dtype=np.int64))
    masked = torch.full_like(scores, float("-inf"))
    indices = [np.concatenate([np.empty(0, np.int64), *ids]), *map(np.array, rows_of_mask.values())]
    on_device = torch.from_numpy(np.concatenate(indices)).to(scores.device, non_blocking=True)
    token_ids, *rows = torch.split(on_device, [len(index) for index in indices])
    for mask, mask_rows in zip(rows_of_mask, rows, strict=True):
        values = scores[mask_rows]
        if mask is not None:
            values = values.masked_fill(mask.forbidden_on(scores.device, vocab_size), float("-inf"))
        masked.index_copy_(0, mask_rows, values)
    masked.view(-1).index_copy_(0, token_ids, scores.reshape(-1)[token_ids])
    return masked


def build_logits_processor(
    tokenizer: Any,
    grammars: Sequence[ObjectGrammar | JsonGrammar | None],
    max_new_tokens: int | Sequence[int],
) -> GrammarLogitsProcessor:
    """Return the constraint for a batch of prompts, each with its own grammar and token limit.

    Raises ModelError if a single object does not fit into the limit of its prompt.
    """
    automata = [_compile(tokenizer, grammar) for grammar in grammars]
    limits = limit_per_prompt(max_new_tokens, len(automata))
    for automaton, limit in zip(automata, limits, strict=True):
        if automaton and automaton.max_object_tokens > limit:
            raise ModelError(
                f"task.max_new_tokens must be at least {automaton.max_object_tokens}, the tokens "
                f"of one object, with evaluation.constrained_decoding=true, got {limit}."
            )
    return GrammarLogitsProcessor(automata, limits)


def _compile(tokenizer: Any, grammar: ObjectGrammar | JsonGrammar | None) -> Automaton | None:
    if grammar is None:
        return None
    if isinstance(grammar, JsonGrammar):
        return compile_json_grammar(tokenizer, grammar)
    return compile_grammar(tokenizer, grammar)


@lru_cache(maxsize=256)
def compile_grammar(tokenizer: Any, grammar: ObjectGrammar) -> GrammarAutomaton:
    """Compile a grammar for a tokenizer."""
    first_loc_id, first_seg_id = tokenizer.convert_tokens_to_ids(["<loc0000>", "<seg000>"])
    label_state: LabelState
    if grammar.labels is None:
        [ids] = TextTokenizer(tokenizer).encode([f"<loc0000>{OBJECT_SEPARATOR}<loc0000>"])
        separator = ids[1:-1]
        label_state = FreeTextState.initial(tokenizer, tuple(separator))
    else:
        label_state = _label_trie(tokenizer, grammar)
    return GrammarAutomaton(
        grammar, label_state, first_loc_id, first_seg_id, tokenizer.eos_token_id
    )


def _label_trie(tokenizer: Any, grammar: ObjectGrammar) -> TrieNode:
    root, text_tokenizer = TrieNode(), TextTokenizer(tokenizer)
    before = "<seg000>" if grammar.with_masks else "<loc0000>"
    for label in grammar.labels or ():
        text = f"{before} {label}" if label else before
        label_ids, with_separator = text_tokenizer.encode(
            [text, f"{text}{OBJECT_SEPARATOR}<loc0000>"]
        )
        root.insert(label_ids[1:]).can_end = True
        root.insert(with_separator[1:-1]).is_complete = True
    root.finalize()
    return root
