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

from palitune.codec.boxes import BINS, SEPARATOR
from palitune.codec.grammar import Grammar
from palitune.codec.masks import CODES, LENGTH
from palitune.models.checkpoints import ModelError
from palitune.models.free_words import Piece, Words

SIDES = 4


class Place(Protocol):
    """Where in the label, or in the separator after it, an answer has come to."""

    @property
    def ends(self) -> bool:
        """Whether the answer may end here."""

    @property
    def is_done(self) -> bool:
        """Whether the separator stands and the next box is due."""

    @property
    def longest(self) -> int:
        """Tokens that the label may still take."""

    def pieces(self, left: int, spare: int) -> list[Piece]:
        """Tell the tokens that may come next.

        `left` tokens may still be written; `spare` of those are free for the separator where
        another object follows, a negative number where none may.
        """

    def after(self, token: int) -> "Place | None":
        """Go on by a token; None for one that may not come."""


class Node:
    """A place in the tree of labels."""

    def __init__(self) -> None:
        self.children: dict[int, Node] = {}
        self.ends = False
        self.is_done = False
        self.to_end: int | None = None
        """The most tokens from here to where the answer may end; None where it nowhere may."""
        self.to_box: int | None = None
        """Likewise to where the next box is due."""

    @property
    def longest(self) -> int:
        return self.to_end or 0

    def add(self, tokens: Sequence[int]) -> "Node":
        """Grow a branch and return its tip."""
        node = self
        for token in tokens:
            node = node.children.setdefault(token, Node())
        return node

    def settle(self) -> None:
        """Fill in the distances, once the tree stands."""
        below = list(self.children.values())
        for child in below:
            child.settle()
        ends = [child.to_end + 1 for child in below if child.to_end is not None]
        boxes = [child.to_box + 1 for child in below if child.to_box is not None]
        self.to_end = max(ends, default=0 if self.ends else None)
        self.to_box = max(boxes, default=0 if self.is_done else None)

    def pieces(self, left: int, spare: int) -> list[Piece]:
        return [
            [
                token
                for token, child in self.children.items()
                if child.to_end is not None or (child.to_box is not None and child.to_box <= spare)
            ]
        ]

    def after(self, token: int) -> "Node | None":
        return self.children.get(token)


class State(NamedTuple):
    """How far an answer has come."""

    objects: int = 0
    """Whole ones before the present one."""
    box: tuple[int, ...] = ()
    """Sides of the present one, y0 x0 y1 x1, as far as they are written."""
    codes: int = 0
    """`<seg>` tokens of the present one."""
    place: Place | None = None
    """Where its label has come to, once box and mask are whole."""


@dataclass(frozen=True)
class Machine:
    """A grammar in the tokens of one tokenizer."""

    grammar: Grammar
    label: Place
    """Where every label begins."""
    loc: int
    """`<loc0000>`; the others follow it, as `loading.check_tokens` has seen to."""
    seg: int
    eos: int

    @property
    def object_tokens(self) -> int:
        """The most tokens that an object and the end of the answer take; of free words, some."""
        return SIDES + self._codes + self.label.longest + 1

    @property
    def _codes(self) -> int:
        return LENGTH if self.grammar.masks else 0

    def after(self, state: State | None, token: int) -> State | None:
        """Go on by a token; None once the answer has ended, or left the grammar."""
        if state is None or token == self.eos:
            return None
        if state.place is not None and not state.place.is_done:
            place = state.place.after(token)
            return None if place is None else state._replace(place=place)
        if state.place is not None:
            state = State(objects=state.objects + 1)
        if len(state.box) < SIDES:
            if not self.loc <= token < self.loc + BINS:
                return None
            state = state._replace(box=(*state.box, token - self.loc))
        else:
            state = state._replace(codes=state.codes + 1)
        is_whole = len(state.box) == SIDES and state.codes == self._codes
        return state._replace(place=self.label) if is_whole else state

    def pieces(self, state: State | None, left: int) -> list[Piece]:
        """Tell the tokens that may come next, `left` of which may still be written.

        None may once the answer has ended: what is written behind its end is nobody's.
        """
        if state is None:
            return []
        if state.place is not None and not state.place.is_done:
            may_go_on = self.grammar.most is None or state.objects + 1 < self.grammar.most
            spare = left - 1 - self.object_tokens if may_go_on else -1
            pieces = state.place.pieces(left, spare)
            is_enough = state.objects + 1 >= self.grammar.least or spare < 0 or not any(pieces)
            return [*pieces, [self.eos]] if state.place.ends and is_enough else pieces
        if state.place is None and len(state.box) == SIDES:
            return [slice(self.seg, self.seg + CODES)]
        if state == State() and self.grammar.empty and not self.grammar.least:
            return [[self.eos], self._side(())]
        return [self._side(() if state.place is not None else state.box)]

    def _side(self, box: tuple[int, ...]) -> slice:
        """The tokens of a box's next side: the second corner lies right of and below the first."""
        least = box[len(box) - 2] + 1 if len(box) >= 2 else 0
        most = BINS if len(box) >= 2 else BINS - 1
        return slice(self.loc + least, self.loc + most)


class Constraint:
    """Leave only the tokens that the grammar of each prompt allows; None allows any.

    It has no memory but a cache of the step before, since beams are reordered between steps.
    """

    def __init__(self, machines: Sequence[Machine | None], max_new_tokens: int) -> None:
        self.machines = machines
        self.max_new_tokens = max_new_tokens
        self._states: dict[tuple[int, tuple[int, ...]], State | None] = {}

    def __call__(
        self, prompts: Sequence[int], written: Sequence[Sequence[int]], scores: torch.Tensor
    ) -> torch.Tensor:
        """Set the scores (answers, vocabulary) of other tokens to minus infinity.

        Of each answer, `prompts` tells the number of its prompt and `written` its tokens.
        """
        masked = torch.full_like(scores, float("-inf"))
        states = {}
        for row, (prompt, ids) in enumerate(zip(prompts, written, strict=True)):
            machine = self.machines[prompt]
            if machine is None:
                masked[row] = scores[row]
                continue
            key = (prompt, tuple(ids))
            states[key] = self._state(machine, *key)
            for piece in machine.pieces(states[key], self.max_new_tokens - len(ids)):
                masked[row, piece] = scores[row, piece]
        self._states = states
        return masked

    def _state(self, machine: Machine, prompt: int, written: tuple[int, ...]) -> State | None:
        before = (prompt, written[:-1])
        if written and before in self._states:
            return machine.after(self._states[before], written[-1])
        state: State | None = State()
        for token in written:
            state = machine.after(state, token)
        return state


def constraint(
    tokenizer: Any, grammars: Sequence[Grammar | None], max_new_tokens: int
) -> Constraint:
    """Make the constraint for a batch of prompts, each with its own grammar.

    Raises ModelError where not one object fits into `max_new_tokens`.
    """
    machines = [compiled(tokenizer, grammar) if grammar else None for grammar in grammars]
    needed = max((machine.object_tokens for machine in machines if machine), default=0)
    if needed > max_new_tokens:
        raise ModelError(
            f"task.max_new_tokens={max_new_tokens}: one object may take {needed} tokens, so that "
            "evaluation.grammar=true could allow none; raise it"
        )
    return Constraint(machines, max_new_tokens)


@lru_cache(maxsize=256)
def compiled(tokenizer: Any, grammar: Grammar) -> Machine:
    """Write a grammar in a tokenizer's tokens."""
    loc, seg = tokenizer.convert_tokens_to_ids(["<loc0000>", "<seg000>"])
    label = _words(tokenizer) if grammar.labels is None else _tree(tokenizer, grammar)
    return Machine(grammar, label, loc, seg, tokenizer.eos_token_id)


def _tree(tokenizer: Any, grammar: Grammar) -> Node:
    root = Node()
    before = "<seg000>" if grammar.masks else "<loc0000>"
    for label in grammar.labels or ():
        text = f" {label}" if label else ""
        root.add(_ids(tokenizer, before + text)[1:]).ends = True
        root.add(_ids(tokenizer, f"{before}{text}{SEPARATOR}<loc0000>")[1:-1]).is_done = True
    root.settle()
    return root


def _words(tokenizer: Any) -> Words:
    separator = _ids(tokenizer, f"<loc0000>{SEPARATOR}<loc0000>")[1:-1]
    return Words.begin(tokenizer, tuple(separator))


def _ids(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids
