"""Ways through a compiled grammar: the tokens it allows, and answers that keep to it at random."""

import random
from collections.abc import Collection
from typing import Any

import torch

from palitune.models.grammar import Machine, State


def allowed(machine: Machine, state: State | None, left: int, tokens: int) -> set[int]:
    """Return the numbers, of a vocabulary of `tokens`, that may come next."""
    numbers = torch.arange(tokens)
    return {token for piece in machine.pieces(state, left) for token in numbers[piece].tolist()}


def accepts(machine: Machine, ids: list[int], tokens: int) -> bool:
    """Tell whether an answer of these tokens and EOS keeps to the grammar, with room to spare."""
    state: State | None = State()
    for written, token in enumerate([*ids, machine.eos]):
        if token not in allowed(machine, state, 10_000 - written, tokens):
            return False
        state = machine.after(state, token)
    return state is None


def walk(
    machine: Machine,
    limit: int,
    tokens: int,
    chance: random.Random,
    liked: Collection[int] = (),
) -> list[int]:
    """Write an answer of at most `limit` tokens, EOS included, at random; it is without its EOS.

    `liked` tokens are taken more often.
    """
    state: State | None = State()
    written: list[int] = []
    while len(written) < limit:
        open_ = sorted(allowed(machine, state, limit - len(written), tokens))
        few = [token for token in open_ if token in liked]
        token = chance.choice(few if few and chance.random() < 0.3 else open_)
        if token == machine.eos:
            return written
        written.append(token)
        state = machine.after(state, token)
    raise AssertionError(f"an answer was cut: {written}")


def text_of(tokenizer: Any, ids: list[int]) -> str:
    text: str = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text
