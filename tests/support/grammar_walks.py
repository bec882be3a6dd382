"""Ways through a compiled grammar: the tokens it allows, and answers that keep to it at random."""

import random
from collections.abc import Collection
from typing import Any

import torch

from palitune.models.generation.constraints import AutomatonState, GrammarAutomaton


def allowed_token_ids(
    automaton: GrammarAutomaton, state: AutomatonState | None, remaining: int, vocab_size: int
) -> set[int]:
    """Return the numbers, of a vocabulary of `tokens`, that may come next."""
    numbers = torch.arange(vocab_size)
    return {
        token
        for piece in automaton.allowed_tokens(state, remaining)
        for token in numbers[piece].tolist()
    }


def accepts(automaton: GrammarAutomaton, ids: list[int], vocab_size: int) -> bool:
    """Tell whether an answer of these tokens and EOS keeps to the grammar, with room to spare."""
    state: AutomatonState | None = AutomatonState()
    for written, token in enumerate([*ids, automaton.eos_token_id]):
        if token not in allowed_token_ids(automaton, state, 10_000 - written, vocab_size):
            return False
        state = automaton.advance(state, token)
    return state is None


def random_answer(
    automaton: GrammarAutomaton,
    max_new_tokens: int,
    vocab_size: int,
    rng: random.Random,
    preferred: Collection[int] = (),
) -> list[int]:
    """Write an answer of at most `limit` tokens, EOS included, at random; it is without its EOS.

    `liked` tokens are taken more often.
    """
    state: AutomatonState | None = AutomatonState()
    written: list[int] = []
    while len(written) < max_new_tokens:
        open_ = sorted(
            allowed_token_ids(automaton, state, max_new_tokens - len(written), vocab_size)
        )
        few = [token for token in open_ if token in preferred]
        token = rng.choice(few if few and rng.random() < 0.3 else open_)
        if token == automaton.eos_token_id:
            return written
        written.append(token)
        state = automaton.advance(state, token)
    raise AssertionError(f"an answer was cut: {written}")


def decode(tokenizer: Any, ids: list[int]) -> str:
    text: str = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text
