"""Bootstrap resampling by image, and the width of its confidence intervals."""

import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palitune.evaluation import bootstrap
from palitune.evaluation.bootstrap import bootstrap_counts, confidence_interval

from support.bootstrap_means import difference_interval, mean_interval


def test_resampled_sets_have_the_same_number_of_images_and_whole_images() -> None:
    groups = ["a", "b", "a", "c", "b", "a", "d"]
    counts = np.concatenate(list(bootstrap_counts(groups, num_resamples=50)))
    assert counts.shape == (50, 7)
    assert (counts[:, 0] == counts[:, 2]).all()
    assert (counts[:, 1] == counts[:, 4]).all()
    assert (counts[:, [0, 1, 3, 6]].sum(axis=1) == 4).all()


def test_the_seed_determines_the_resampled_sets() -> None:
    first, again, other = (
        np.concatenate(list(bootstrap_counts(range(20), num_resamples=10, seed=seed)))
        for seed in (0, 0, 1)
    )
    assert (first == again).all()
    assert (first != other).any()


def test_resampled_sets_are_yielded_in_blocks_of_limited_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bootstrap, "_MAX_BLOCK_ENTRIES", 60)
    blocks = list(bootstrap_counts(range(20), num_resamples=10))
    assert [len(block) for block in blocks] == [3, 3, 3, 1]


def test_the_interval_of_a_mean_matches_the_normal_approximation() -> None:
    scores = np.random.default_rng(0).random(400).tolist()
    low, high = mean_interval(scores)
    deviation = np.std(scores) / math.sqrt(400)
    assert low < np.mean(scores) < high
    assert (high - low) == pytest.approx(2 * 1.96 * deviation, rel=0.1)


def test_questions_about_the_same_image_widen_the_interval() -> None:
    rng = np.random.default_rng(1)
    scores = np.repeat(rng.integers(0, 2, 60), 5).astype(float).tolist()
    images = np.repeat(np.arange(60), 5).tolist()
    ungrouped, grouped = mean_interval(scores), mean_interval(scores, images)
    assert grouped[1] - grouped[0] > 1.8 * (ungrouped[1] - ungrouped[0])


def test_the_interval_of_a_difference_is_paired() -> None:
    rng = np.random.default_rng(2)
    before = rng.random(200)
    after = before + 0.02 + rng.normal(0, 0.02, 200)
    low, high = difference_interval(before.tolist(), after.tolist())
    assert 0 < low < 0.02 < high
    unpaired = mean_interval(before.tolist())
    assert high - low < 0.2 * (unpaired[1] - unpaired[0])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_an_interval_lies_between_the_lowest_and_highest_score(scores: list[float]) -> None:
    low, high = mean_interval(scores)
    assert min(scores) - 1e-9 <= low <= high <= max(scores) + 1e-9


def test_nan_values_are_ignored_and_only_nan_values_give_nan() -> None:
    assert confidence_interval(np.array([np.nan, 1.0, 1.0])) == (1, 1)
    assert all(math.isnan(bound) for bound in confidence_interval(np.array([np.nan, np.nan])))


def test_a_thousand_resamples_of_five_thousand_images_take_seconds() -> None:
    start = time.perf_counter()
    mean_interval(np.random.default_rng(0).random(5000).tolist())
    assert time.perf_counter() - start < 20
