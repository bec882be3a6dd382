"""Keep generation within a task's grammar, in batches and beams.

A grammar is compiled for one tokenizer: what may follow a box, ` label` before the end of the
answer and ` label ; ` before the next box, is tokenized as it stands there in training, and all of
it makes one tree. So a label that begins another, one of several tokens, and one that is cut
otherwise before the separator need no care.

No object is begun that might not end within the tokens left, and no separator is written that no
object could follow, so that an answer is never cut. The price: near the limit an answer may end one
object early, the last one being allowed only where the longest label would fit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import torch

from palitune.codec.boxes import NUM_LOC_BINS, OBJECT_SEPARATOR
from palitune.codec.grammar import ObjectGrammar
from palitune.codec.masks import CODES_PER_MASK, NUM_CODES
from palitune.errors import ModelError
from palitune.models.generation.free_text_constraint import FreeTextState, TokenIndices

COORDINATES_PER_BOX = 4


class LabelState(Protocol):
    """Where in the label, or in the separator after it, an answer has come to."""

    @property
    def can_end(self) -> bool:
        """Whether the answer may end here."""

    @property
    def is_complete(self) -> bool:
        """Whether the separator stands and the next box is due."""

    @property
    def max_label_tokens(self) -> int:
        """Tokens that the label may still take."""

    def allowed_tokens(self, tokens_left: int, separator_budget: int) -> list[TokenIndices]:
        """Tell the tokens that may come next.

        `left` tokens may still be written; `spare` of those are free for the separator where
        another object follows, a negative number where none may.
        """

    def advance(self, token: int) -> "LabelState | None":
        """Go on by a token; None for one that may not come."""


class TrieNode:
    """A place in the tree of labels."""

    def __init__(self) -> None:
        self.children: dict[int, TrieNode] = {}
        self.can_end = False
        self.is_complete = False
        self.max_tokens_to_end: int | None = None
        """The most tokens from here to where the answer may end; None where it nowhere may."""
        self.max_tokens_to_box: int | None = None
        """Likewise to where the next box is due."""

    @property
    def max_label_tokens(self) -> int:
        return self.max_tokens_to_end or 0

    def insert(self, tokens: Sequence[int]) -> "TrieNode":
        """Grow a branch and return its tip."""
        node = self
        for token in tokens:
            node = node.children.setdefault(token, TrieNode())
        return node

    def finalize(self) -> None:
        """Fill in the distances, once the tree stands."""
        below = list(self.children.values())
        for child in below:
            child.finalize()
        ends = [
            child.max_tokens_to_end + 1 for child in below if child.max_tokens_to_end is not None
        ]
        boxes = [
            child.max_tokens_to_box + 1 for child in below if child.max_tokens_to_box is not None
        ]
        self.max_tokens_to_end = max(ends, default=0 if self.can_end else None)
        self.max_tokens_to_box = max(boxes, default=0 if self.is_complete else None)

    def allowed_tokens(self, tokens_left: int, separator_budget: int) -> list[TokenIndices]:
        return [
            [
                token
                for token, child in self.children.items()
                if child.max_tokens_to_end is not None
                or (
                    child.max_tokens_to_box is not None
                    and child.max_tokens_to_box <= separator_budget
                )
            ]
        ]

    def advance(self, token: int) -> "TrieNode | None":
        return self.children.get(token)


class AutomatonState(NamedTuple):
    """How far an answer has come."""

    num_objects: int = 0
    """Whole ones before the present one."""
    box_coordinates: tuple[int, ...] = ()
    """Sides of the present one, y0 x0 y1 x1, as far as they are written."""
    num_mask_tokens: int = 0
    """`<seg>` tokens of the present one."""
    label_state: LabelState | None = None
    """Where its label has come to, once box and mask are whole."""


@dataclass(frozen=True)
class GrammarAutomaton:
    """A grammar in the tokens of one tokenizer."""

    grammar: ObjectGrammar
    initial_label_state: LabelState
    """Where every label begins."""
    first_loc_id: int
    """`<loc0000>`; the others follow it, as `loading.check_tokens` has seen to."""
    first_seg_id: int
    eos_token_id: int

    @property
    def max_object_tokens(self) -> int:
        """The most tokens that an object and the end of the answer take; of free words, some."""
        return (
            COORDINATES_PER_BOX
            + self._mask_tokens_per_object
            + self.initial_label_state.max_label_tokens
            + 1
        )

    @property
    def _mask_tokens_per_object(self) -> int:
        return CODES_PER_MASK if self.grammar.with_masks else 0

    def advance(self, state: AutomatonState | None, token: int) -> AutomatonState | None:
        """Go on by a token; None once the answer has ended, or left the grammar."""
        if state is None or token == self.eos_token_id:
            return None
        if state.label_state is not None and not state.label_state.is_complete:
            place = state.label_state.advance(token)
            return None if place is None else state._replace(label_state=place)
        if state.label_state is not None:
            state = AutomatonState(num_objects=state.num_objects + 1)
        if len(state.box_coordinates) < COORDINATES_PER_BOX:
            if not self.first_loc_id <= token < self.first_loc_id + NUM_LOC_BINS:
                return None
            state = state._replace(
                box_coordinates=(*state.box_coordinates, token - self.first_loc_id)
            )
        else:
            state = state._replace(num_mask_tokens=state.num_mask_tokens + 1)
        is_whole = (
            len(state.box_coordinates) == COORDINATES_PER_BOX
            and state.num_mask_tokens == self._mask_tokens_per_object
        )
        return state._replace(label_state=self.initial_label_state) if is_whole else state

    def allowed_tokens(self, state: AutomatonState | None, tokens_left: int) -> list[TokenIndices]:
        """Tell the tokens that may come next, `left` of which may still be written.

        None may once the answer has ended: what is written behind its end is nobody's.
        """
        if state is None:
            return []
        if state.label_state is not None and not state.label_state.is_complete:
            may_go_on = (
                self.grammar.max_objects is None or state.num_objects + 1 < self.grammar.max_objects
            )
            spare = tokens_left - 1 - self.max_object_tokens if may_go_on else -1
            pieces = state.label_state.allowed_tokens(tokens_left, spare)
            is_enough = (
                state.num_objects + 1 >= self.grammar.min_objects or spare < 0 or not any(pieces)
            )
            return (
                [*pieces, [self.eos_token_id]]
                if state.label_state.can_end and is_enough
                else pieces
            )
        if state.label_state is None and len(state.box_coordinates) == COORDINATES_PER_BOX:
            return [slice(self.first_seg_id, self.first_seg_id + NUM_CODES)]
        if state == AutomatonState() and self.grammar.allow_empty and not self.grammar.min_objects:
            return [[self.eos_token_id], self._allowed_coordinates(())]
        return [
            self._allowed_coordinates(
                () if state.label_state is not None else state.box_coordinates
            )
        ]

    def _allowed_coordinates(self, box_coordinates: tuple[int, ...]) -> slice:
        """The tokens of a box's next side: the second corner lies right of and below the first."""
        least = box_coordinates[len(box_coordinates) - 2] + 1 if len(box_coordinates) >= 2 else 0
        most = NUM_LOC_BINS if len(box_coordinates) >= 2 else NUM_LOC_BINS - 1
        return slice(self.first_loc_id + least, self.first_loc_id + most)


class GrammarLogitsProcessor:
    """Leave only the tokens that the grammar of each prompt allows; None allows any.

    It has no memory but a cache of the step before, since beams are reordered between steps.
    """

    def __init__(self, automata: Sequence[GrammarAutomaton | None], max_new_tokens: int) -> None:
        self.automata = automata
        self.max_new_tokens = max_new_tokens
        self._state_cache: dict[tuple[int, tuple[int, ...]], AutomatonState | None] = {}

    def __call__(
        self,
        prompt_indices: Sequence[int],
        generated_ids: Sequence[Sequence[int]],
        scores: torch.Tensor,
    ) -> torch.Tensor:
        """Set the scores (answers, vocabulary) of other tokens to minus infinity.

        Of each answer, `prompts` tells the number of its prompt and `written` its tokens.
        """
        masked = torch.full_like(scores, float("-inf"))
        states = {}
        for row, (prompt, ids) in enumerate(zip(prompt_indices, generated_ids, strict=True)):
            machine = self.automata[prompt]
            if machine is None:
                masked[row] = scores[row]
                continue
            key = (prompt, tuple(ids))
            states[key] = self._state_after(machine, *key)
            for piece in machine.allowed_tokens(states[key], self.max_new_tokens - len(ids)):
                masked[row, piece] = scores[row, piece]
        self._state_cache = states
        return masked

    def _state_after(
        self, automaton: GrammarAutomaton, prompt_index: int, generated_ids: tuple[int, ...]
    ) -> AutomatonState | None:
        before = (prompt_index, generated_ids[:-1])
        if generated_ids and before in self._state_cache:
            return automaton.advance(self._state_cache[before], generated_ids[-1])
        state: AutomatonState | None = AutomatonState()
        for token in generated_ids:
            state = automaton.advance(state, token)
        return state


def build_logits_processor(
    tokenizer: Any, grammars: Sequence[ObjectGrammar | None], max_new_tokens: int
) -> GrammarLogitsProcessor:
    """Make the constraint for a batch of prompts, each with its own grammar.

    Raises ModelError where not one object fits into `max_new_tokens`.
    """
    machines = [compile_grammar(tokenizer, grammar) if grammar else None for grammar in grammars]
    needed = max((machine.max_object_tokens for machine in machines if machine), default=0)
    if needed > max_new_tokens:
        raise ModelError(
            f"task.max_new_tokens={max_new_tokens}: one object may take {needed} tokens, so that "
            "evaluation.constrained_decoding=true could allow none; raise it"
        )
    return GrammarLogitsProcessor(machines, max_new_tokens)


@lru_cache(maxsize=256)
def compile_grammar(tokenizer: Any, grammar: ObjectGrammar) -> GrammarAutomaton:
    """Write a grammar in a tokenizer's tokens."""
    loc, seg = tokenizer.convert_tokens_to_ids(["<loc0000>", "<seg000>"])
    label = (
        _free_text_state(tokenizer) if grammar.labels is None else _label_trie(tokenizer, grammar)
    )
    return GrammarAutomaton(grammar, label, loc, seg, tokenizer.eos_token_id)


def _label_trie(tokenizer: Any, grammar: ObjectGrammar) -> TrieNode:
    root = TrieNode()
    before = "<seg000>" if grammar.with_masks else "<loc0000>"
    for label in grammar.labels or ():
        text = f" {label}" if label else ""
        root.insert(_encode(tokenizer, before + text)[1:]).can_end = True
        root.insert(
            _encode(tokenizer, f"{before}{text}{OBJECT_SEPARATOR}<loc0000>")[1:-1]
        ).is_complete = True
    root.finalize()
    return root


def _free_text_state(tokenizer: Any) -> FreeTextState:
    separator = _encode(tokenizer, f"<loc0000>{OBJECT_SEPARATOR}<loc0000>")[1:-1]
    return FreeTextState.initial(tokenizer, tuple(separator))


def _encode(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids
