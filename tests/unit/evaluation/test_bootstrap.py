"""Intervals by the bootstrap: what is drawn, and how wide they come out."""

import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palitune.evaluation import bootstrap
from palitune.evaluation.bootstrap import (
    bootstrap_counts,
    confidence_interval,
    difference_interval,
    mean_interval,
)


def test_every_test_set_has_as_many_images_and_images_go_whole() -> None:
    groups = ["a", "b", "a", "c", "b", "a", "d"]
    counts = np.concatenate(list(bootstrap_counts(groups, num_resamples=50)))
    assert counts.shape == (50, 7)
    assert (counts[:, 0] == counts[:, 2]).all()
    assert (counts[:, 1] == counts[:, 4]).all()
    assert (counts[:, [0, 1, 3, 6]].sum(axis=1) == 4).all()


def test_the_same_seed_draws_the_same_sets_and_another_one_others() -> None:
    first, again, other = (
        np.concatenate(list(bootstrap_counts(range(20), num_resamples=10, seed=seed)))
        for seed in (0, 0, 1)
    )
    assert (first == again).all()
    assert (first != other).any()


def test_sets_come_in_blocks_that_fit_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "_MAX_BLOCK_ENTRIES", 60)
    blocks = list(bootstrap_counts(range(20), num_resamples=10))
    assert [len(block) for block in blocks] == [3, 3, 3, 1]


def test_an_interval_of_a_mean_is_as_wide_as_theory_says() -> None:
    scores = np.random.default_rng(0).random(400).tolist()
    low, high = mean_interval(scores)
    deviation = np.std(scores) / math.sqrt(400)
    assert low < np.mean(scores) < high
    assert (high - low) == pytest.approx(2 * 1.96 * deviation, rel=0.1)


def test_questions_about_the_same_image_tell_less_than_about_different_ones() -> None:
    chance = np.random.default_rng(1)
    scores = np.repeat(chance.integers(0, 2, 60), 5).astype(float).tolist()
    images = np.repeat(np.arange(60), 5).tolist()
    apart, together = mean_interval(scores), mean_interval(scores, images)
    assert together[1] - together[0] > 1.8 * (apart[1] - apart[0])


def test_the_interval_of_a_difference_is_that_of_pairs() -> None:
    chance = np.random.default_rng(2)
    before = chance.random(200)
    after = before + 0.02 + chance.normal(0, 0.02, 200)
    low, high = difference_interval(before.tolist(), after.tolist())
    assert 0 < low < 0.02 < high
    alone = mean_interval(before.tolist())
    assert high - low < 0.2 * (alone[1] - alone[0])
    with pytest.raises(ValueError, match="3 scores before meet 2 after"):
        difference_interval([1, 2, 3], [1, 2])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_an_interval_lies_within_the_scores(scores: list[float]) -> None:
    low, high = mean_interval(scores)
    assert min(scores) - 1e-9 <= low <= high <= max(scores) + 1e-9


def test_undefined_resamples_are_left_out_and_nothing_defined_is_nan() -> None:
    assert confidence_interval(np.array([np.nan, 1.0, 1.0])) == (1, 1)
    assert all(math.isnan(end) for end in confidence_interval(np.array([np.nan, np.nan])))


def test_a_thousand_resamples_of_five_thousand_images_take_seconds() -> None:
    start = time.perf_counter()
    mean_interval(np.random.default_rng(0).random(5000).tolist())
    assert time.perf_counter() - start < 20
