"""Which tokens are taken, where an answer ends and which answers go on: spelt out on a few tokens.

That beams are those of transformers is in test_decoding.
"""

import math
from collections.abc import Sequence

import pytest
import torch

from palitune.models.search import Beams, Greedy

EOS = 0


def scores(*rows: Sequence[float]) -> torch.Tensor:
    """Logits of rows of probabilities; three more tokens never come."""
    return torch.tensor([[*row, 0.0, 0.0, 0.0] for row in rows]).log()


def test_the_likeliest_token_is_taken_until_eos_or_the_limit() -> None:
    search = Greedy(prompts=3, eos=EOS, most=2)
    first = scores([0.1, 0.6, 0.3], [0.8, 0.1, 0.1], [0.1, 0.2, 0.7])
    assert search.take(first) == ([0, 2], [1, 2])
    assert search.take(scores([0.9, 0.1, 0.0], [0.2, 0.3, 0.5])) == ([], [])
    assert [answer.ids for answer in search.answers()] == [(1, EOS), (EOS,), (2, 2)]
    assert search.answers()[0].log_probs == pytest.approx([math.log(0.6), math.log(0.9)])


def without_two(
    prompts: Sequence[int], written: Sequence[Sequence[int]], scores: torch.Tensor
) -> torch.Tensor:
    assert len(prompts) == len(written) == len(scores)
    return scores.masked_fill(torch.arange(scores.shape[1]) == 2, -math.inf)


def test_what_may_not_come_is_not_taken_and_what_comes_is_as_sure_as_without_a_limit() -> None:
    search = Greedy(1, EOS, 1, without_two)
    search.take(scores([0.1, 0.2, 0.7]))
    assert search.answers()[0].ids == (1,)
    assert search.answers()[0].log_probs == pytest.approx([math.log(0.2)])


def test_a_beam_that_began_worse_may_be_the_better_answer() -> None:
    search = Beams(prompts=1, eos=EOS, most=2, beams=2)
    assert search.take(scores([0.0, 0.6, 0.4])) == ([0, 0], [1, 2])
    assert search.take(scores([0.5, 0.3, 0.2], [0.9, 0.1, 0.0])) == ([], [])
    assert search.answers()[0].ids == (2, EOS)
    assert search.answers()[0].score == pytest.approx(math.log(0.4 * 0.9))


def test_beams_that_nothing_is_left_for_never_win() -> None:
    search = Beams(1, EOS, 2, 2, without_two)
    answers, tokens = search.take(scores([0.0, 0.5, 0.5]))
    assert (answers[0], tokens[0]) == (0, 1)
    search.take(scores([0.5, 0.5, 0.0], [1.0, 0.0, 0.0]))
    assert search.answers()[0].ids[0] == 1


def test_a_prompt_leaves_once_none_of_its_beams_can_win() -> None:
    search = Beams(prompts=2, eos=EOS, most=9, beams=1)
    assert search.take(scores([0.9, 0.1, 0.0], [0.1, 0.9, 0.0])) == ([1], [1])
    assert search.prompts[0].ended[0].ids == (EOS,)
