"""Which tokens are taken, where an answer ends and which answers go on: spelt out on a few tokens.

That beams are those of transformers is in test_decoding.
"""

import math
from collections.abc import Sequence

import pytest
import torch

from palitune.models.generation.beam_search import BeamSearch, GreedySearch

EOS = 0


def scores(*rows: Sequence[float]) -> torch.Tensor:
    """Logits of rows of probabilities; three more tokens never come."""
    return torch.tensor([[*row, 0.0, 0.0, 0.0] for row in rows]).log()


def test_the_likeliest_token_is_taken_until_eos_or_the_limit() -> None:
    search = GreedySearch(num_prompts=3, eos_token_id=EOS, max_new_tokens=2)
    first = scores([0.1, 0.6, 0.3], [0.8, 0.1, 0.1], [0.1, 0.2, 0.7])
    assert search.select(first) == ([0, 2], [1, 2])
    assert search.select(scores([0.9, 0.1, 0.0], [0.2, 0.3, 0.5])) == ([], [])
    assert [answer.token_ids for answer in search.finished()] == [(1, EOS), (EOS,), (2, 2)]
    assert search.finished()[0].log_probs == pytest.approx([math.log(0.6), math.log(0.9)])


def without_two(
    prompts: Sequence[int], written: Sequence[Sequence[int]], scores: torch.Tensor
) -> torch.Tensor:
    assert len(prompts) == len(written) == len(scores)
    return scores.masked_fill(torch.arange(scores.shape[1]) == 2, -math.inf)


def test_what_may_not_come_is_not_taken_and_what_comes_is_as_sure_as_without_a_limit() -> None:
    search = GreedySearch(1, EOS, 1, without_two)
    search.select(scores([0.1, 0.2, 0.7]))
    assert search.finished()[0].token_ids == (1,)
    assert search.finished()[0].log_probs == pytest.approx([math.log(0.2)])


def test_a_beam_that_began_worse_may_be_the_better_answer() -> None:
    search = BeamSearch(num_prompts=1, eos_token_id=EOS, max_new_tokens=2, num_beams=2)
    assert search.select(scores([0.0, 0.6, 0.4])) == ([0, 0], [1, 2])
    assert search.select(scores([0.5, 0.3, 0.2], [0.9, 0.1, 0.0])) == ([], [])
    assert search.finished()[0].token_ids == (2, EOS)
    assert search.finished()[0].score == pytest.approx(math.log(0.4 * 0.9))


def test_beams_that_nothing_is_left_for_never_win() -> None:
    search = BeamSearch(1, EOS, 2, 2, without_two)
    answers, tokens = search.select(scores([0.0, 0.5, 0.5]))
    assert (answers[0], tokens[0]) == (0, 1)
    search.select(scores([0.5, 0.5, 0.0], [1.0, 0.0, 0.0]))
    assert search.finished()[0].token_ids[0] == 1


def test_a_prompt_leaves_once_none_of_its_beams_can_win() -> None:
    search = BeamSearch(num_prompts=2, eos_token_id=EOS, max_new_tokens=9, num_beams=1)
    assert search.select(scores([0.9, 0.1, 0.0], [0.1, 0.9, 0.0])) == ([1], [1])
    assert search.beam_states[0].finished[0].token_ids == (EOS,)
