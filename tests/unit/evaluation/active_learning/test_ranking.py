import numpy as np
import pytest

from palitune.evaluation.active_learning.ranking import (
    RankBy,
    k_center,
    rank_images,
    uncertainties,
)
from palitune.records import Instance, Prediction, Value


def predicted(value: Value | None, confidence: float | None = None, **kwargs: bool) -> Prediction:
    return Prediction(id="x", text="", value=value, confidence=confidence, **kwargs)


def boat(score: float) -> Instance:
    return Instance("boat", (0, 0, 5, 5), score=score)


def test_an_image_is_as_certain_as_its_least_confident_object() -> None:
    predictions = [
        predicted((boat(0.9), boat(0.25)), 0.8),
        predicted("7", 0.75),
        predicted((), 0.6),
        predicted(None, 0.9),
        predicted("cut", 0.9, finished=False),
        predicted("no confidence"),
    ]
    values = uncertainties(predictions, [None] * 6)
    assert values == pytest.approx([0.75, 0.25, 0.4, 1, 1, 1])


def test_a_small_margin_to_the_base_model_raises_the_uncertainty() -> None:
    predictions = [predicted("7", 0.8)] * 4
    values = uncertainties(predictions, [2.0, -0.5, 1.0, 0.0])
    assert list(np.argsort(values)) == [0, 2, 3, 1]
    assert values[0] == pytest.approx(0.1)  # no image has a larger margin


def test_the_ranking_by_uncertainty_starts_with_the_least_certain() -> None:
    predictions = [predicted("7", confidence) for confidence in (0.9, 0.2, 0.5)]
    ranked = rank_images(RankBy.uncertainty, predictions, [None] * 3, None, count=2)
    assert [image.index for image in ranked] == [1, 2]
    assert [image.confidence for image in ranked] == [0.2, 0.5]
    assert ranked[0].distance is None


def test_k_center_takes_an_image_of_each_group_before_a_second_of_one() -> None:
    rng = np.random.default_rng(0)
    centers = np.array([[0, 0], [10, 0], [0, 10], [10, 10]], np.float32)
    features = np.repeat(centers, 25, axis=0) + rng.normal(0, 0.1, (100, 2)).astype(np.float32)
    order, distances = k_center(features, [1.0] * 100, 100)
    assert {index // 25 for index in order[:4]} == {0, 1, 2, 3}
    assert sorted(order) == list(range(100))
    assert distances[0] is None
    assert distances[1:] == sorted((d for d in distances[1:] if d is not None), reverse=True)
    # Twice the optimal radius at most (Gonzalez, 1985).
    radius = np.linalg.norm(features[:, None] - features[order[:4]][None], axis=2).min(1).max()
    best = np.linalg.norm(features[:, None] - centers[None], axis=2).min(1).max()
    assert radius <= 2 * best + 1e-6


def test_equal_images_come_last_and_both_criteria_prefer_the_uncertain_of_distant_ones() -> None:
    features = np.array([[0, 0], [0, 0], [5, 0], [0, 5]], np.float32)
    predictions = [predicted("7", confidence) for confidence in (0.1, 0.1, 0.9, 0.3)]
    by = {
        way: [image.index for image in rank_images(way, predictions, [None] * 4, features, 4)]
        for way in (RankBy.diversity, RankBy.both)
    }
    assert by[RankBy.both] == [0, 3, 2, 1] or by[RankBy.both] == [1, 3, 2, 0]
    assert set(by[RankBy.diversity][-1:]) <= {0, 1}
