"""Batches of similar length: every example once, in an order that only seed and epoch decide."""

import random

from hypothesis import given
from hypothesis import strategies as st

from palitune.data.by_length import LengthGroupedSampler
from palitune.data.training_set import TargetSampling, TrainingSet


def order(lengths: list[int], batch_size: int, epoch: int = 0, seed: int = 0) -> list[int]:
    visits = TrainingSet([], TargetSampling.first, 0)
    visits.set_epoch(epoch)
    return list(LengthGroupedSampler(visits, lengths, batch_size, seed))


def padding(lengths: list[int]) -> int:
    batches = [lengths[start : start + 10] for start in range(0, len(lengths), 10)]
    return sum(max(batch) * len(batch) - sum(batch) for batch in batches)


@given(st.lists(st.integers(1, 99), max_size=300), st.integers(1, 9))
def test_every_example_comes_once(lengths: list[int], batch_size: int) -> None:
    assert sorted(order(lengths, batch_size)) == list(range(len(lengths)))


def test_the_examples_of_a_batch_are_of_similar_length_and_short_ones_not_first() -> None:
    lengths = random.Random(0).choices(range(1000), k=1000)
    drawn = [lengths[index] for index in order(lengths, 10)]
    assert padding(drawn) < padding(lengths) / 10
    batches = [drawn[start : start + 10] for start in range(0, 1000, 10)]
    assert [batch[0] for batch in batches] != sorted(batch[0] for batch in batches)


def test_an_incomplete_batch_comes_last() -> None:
    lengths = list(range(25))
    drawn = order(lengths, 10)
    assert max(drawn[:10]) - min(drawn[:10]) == 9
    assert max(drawn[10:20]) - min(drawn[10:20]) == 9


def test_epochs_and_seeds_differ_and_each_is_the_same_again() -> None:
    lengths = list(range(100))
    first = order(lengths, 5)
    assert first == order(lengths, 5)
    assert first != order(lengths, 5, epoch=1)
    assert first != order(lengths, 5, seed=1)
