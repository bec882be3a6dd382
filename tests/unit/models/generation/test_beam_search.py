"""Greedy and beam search on a vocabulary of a few tokens.

test_kv_cache compares beam search with that of transformers.
"""

import math
from collections.abc import Sequence

import pytest
import torch

from palitune.models.generation.beam_search import BeamSearch, GreedySearch

EOS = 0


def scores(*rows: Sequence[float]) -> torch.Tensor:
    """Return logits of rows of probabilities; three more tokens have probability 0."""
    return torch.tensor([[*row, 0.0, 0.0, 0.0] for row in rows]).log()


def test_the_most_likely_token_is_selected_until_eos_or_the_limit() -> None:
    search = GreedySearch(num_prompts=3, eos_token_id=EOS, max_new_tokens=2)
    first = scores([0.1, 0.6, 0.3], [0.8, 0.1, 0.1], [0.1, 0.2, 0.7])
    assert search.select(first) == ([0, 2], [1, 2])
    assert search.select(scores([0.9, 0.1, 0.0], [0.2, 0.3, 0.5])) == ([], [])
    assert [answer.token_ids for answer in search.finished()] == [(1, EOS), (EOS,), (2, 2)]
    assert search.finished()[0].log_probs == pytest.approx([math.log(0.6), math.log(0.9)])


def forbid_token_two(
    prompts: Sequence[int], generated_ids: Sequence[Sequence[int]], scores: torch.Tensor
) -> torch.Tensor:
    assert len(prompts) == len(generated_ids) == len(scores)
    return scores.masked_fill(torch.arange(scores.shape[1]) == 2, -math.inf)


def test_constraints_change_the_selected_token_but_not_its_log_probability() -> None:
    search = GreedySearch(1, EOS, 1, forbid_token_two)
    search.select(scores([0.1, 0.2, 0.7]))
    assert search.finished()[0].token_ids == (1,)
    assert search.finished()[0].log_probs == pytest.approx([math.log(0.2)])


def test_a_beam_with_a_worse_start_may_win() -> None:
    search = BeamSearch(num_prompts=1, eos_token_id=EOS, max_new_tokens=2, num_beams=2)
    assert search.select(scores([0.0, 0.6, 0.4])) == ([0, 0], [1, 2])
    assert search.select(scores([0.5, 0.3, 0.2], [0.9, 0.1, 0.0])) == ([], [])
    assert search.finished()[0].token_ids == (2, EOS)
    assert search.finished()[0].score == pytest.approx(math.log(0.4 * 0.9))


def test_beams_without_an_allowed_token_never_win() -> None:
    search = BeamSearch(1, EOS, 2, 2, forbid_token_two)
    answers, tokens = search.select(scores([0.0, 0.5, 0.5]))
    assert (answers[0], tokens[0]) == (0, 1)
    search.select(scores([0.5, 0.5, 0.0], [1.0, 0.0, 0.0]))
    assert search.finished()[0].token_ids[0] == 1


def test_a_prompt_is_done_when_no_running_beam_can_win() -> None:
    search = BeamSearch(num_prompts=2, eos_token_id=EOS, max_new_tokens=9, num_beams=1)
    assert search.select(scores([0.9, 0.1, 0.0], [0.1, 0.9, 0.0])) == ([1], [1])
    assert search.beam_states[0].finished[0].token_ids == (EOS,)
