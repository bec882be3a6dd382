"""Walks through a compiled grammar: allowed tokens, accepted answers, random answers."""

import random
from collections.abc import Collection, Iterable
from typing import Any

import torch

from palitune.models.generation.constraints import AutomatonState, GrammarAutomaton
from palitune.models.generation.label_trie import TokenIndices, TokenMask


def allowed_token_ids(
    automaton: GrammarAutomaton, state: AutomatonState | None, remaining: int, vocab_size: int
) -> set[int]:
    """Return the ids, in a vocabulary of `vocab_size` tokens, that may come next."""
    return {
        token
        for tokens in automaton.allowed_tokens(state, remaining)
        for token in token_ids(tokens, vocab_size)
    }


def token_ids(tokens: TokenIndices, vocab_size: int) -> Iterable[int]:
    """Return the ids of a set of tokens."""
    if not isinstance(tokens, TokenMask):
        return tokens
    allowed = ~tokens.forbidden_on(torch.device("cpu"), vocab_size)
    ids: list[int] = allowed.nonzero()[:, 0].tolist()
    return ids


def accepts(automaton: GrammarAutomaton, ids: list[int], vocab_size: int) -> bool:
    """Return whether the grammar accepts an answer of these tokens and EOS, with ample tokens."""
    state: AutomatonState | None = AutomatonState()
    for length, token in enumerate([*ids, automaton.eos_token_id]):
        if token not in allowed_token_ids(automaton, state, 10_000 - length, vocab_size):
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
    """Return a random answer of at most `max_new_tokens` tokens, EOS included, without its EOS.

    `preferred` tokens are selected more often.
    """
    state: AutomatonState | None = AutomatonState()
    generated: list[int] = []
    while len(generated) < max_new_tokens:
        allowed = sorted(
            allowed_token_ids(automaton, state, max_new_tokens - len(generated), vocab_size)
        )
        candidates = [token for token in allowed if token in preferred]
        token = rng.choice(candidates if candidates and rng.random() < 0.3 else allowed)
        if token == automaton.eos_token_id:
            return generated
        generated.append(token)
        state = automaton.advance(state, token)
    raise AssertionError(f"an answer was truncated: {generated}")


def decode(tokenizer: Any, ids: list[int]) -> str:
    text: str = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text
