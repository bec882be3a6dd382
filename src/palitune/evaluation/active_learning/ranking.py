"""Ranking of unlabeled images: uncertainty, diversity, or both.

Diversity is the greedy k-center algorithm (Sener and Savarese, "Active Learning for Convolutional
Neural Networks: A Core-Set Approach", ICLR 2018): the next image is the one farthest from all
chosen ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from palitune.records import Prediction

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Vectors = npt.NDArray[np.float32]


class RankBy(Enum):
    """Criterion by which images are worth labeling."""

    uncertainty = "uncertainty"
    """Low confidence of the answer, and little change of its likelihood by the adapter."""
    diversity = "diversity"
    """Large distance of the vision features from those of all images before it in the list."""
    both = "both"
    """Diversity with distances multiplied by the uncertainty."""


@dataclass(frozen=True, kw_only=True)
class RankedImage:
    """An image to label, with the values of its rank."""

    index: int
    """Position among the ranked images."""
    uncertainty: float
    """In [0, 1]; see `uncertainties`."""
    confidence: float | None
    """Confidence of the answer; None if it is unknown."""
    margin: float | None
    """Log-likelihood of the answer per token, adapter minus base; None without adapter."""
    distance: float | None
    """Distance to the nearest image before it in the list; None for the first and without
    features."""


def rank_images(
    by: RankBy,
    predictions: Sequence[Prediction],
    margins: Sequence[float | None],
    features: "Vectors | None",
    count: int,
) -> list[RankedImage]:
    """Return the first `count` images of the ranking.

    Args:
        by: Criterion.
        predictions: The prediction for each image.
        margins: Log-likelihood per token of each prediction, adapter minus base; None: unknown.
        features: (images, dimensions) vision features; None if diversity does not matter.
        count: Number of images to return.
    """
    values = uncertainties(predictions, margins)
    distances: Sequence[float | None] = [None] * len(values)
    if features is None:
        order = sorted(range(len(values)), key=lambda index: -values[index])[:count]
    else:
        weights = values if by is RankBy.both else [1.0] * len(values)
        order, distances = k_center(features, weights, count)
    return [
        RankedImage(
            index=index,
            uncertainty=values[index],
            confidence=predictions[index].confidence,
            margin=margins[index],
            distance=distance,
        )
        for index, distance in zip(order, distances, strict=False)
    ]


def uncertainties(
    predictions: Sequence[Prediction], margins: Sequence[float | None]
) -> list[float]:
    """Return 1 - confidence; with margins, the mean of it and the rank of the smallest margin.

    A malformed or unfinished prediction has uncertainty 1. The confidence of an image with objects
    is that of its least confident object.
    """
    known = sorted(margin for margin in margins if margin is not None)
    values = []
    for prediction, margin in zip(predictions, margins, strict=True):
        value = _least_confidence(prediction)
        if margin is not None and value < 1:
            share_above = sum(other > margin for other in known) / len(known)
            value = (value + share_above) / 2
        values.append(value)
    return values


def _least_confidence(prediction: Prediction) -> float:
    if prediction.value is None or not prediction.finished:
        return 1.0
    scores = [prediction.confidence]
    if not isinstance(prediction.value, str):
        scores += [instance.score for instance in prediction.value]
    known = [score for score in scores if score is not None]
    return 1 - min(known) if known else 1.0


def k_center(
    features: "Vectors", weights: Sequence[float], count: int
) -> tuple[list[int], list[float | None]]:
    """Return the order of the greedy k-center algorithm and the distance of each chosen image.

    Args:
        features: (images, dimensions).
        weights: Factor of the distance of each image; the largest one starts, and of equal ones
            the image nearest to the mean.
        count: Number of images to choose.
    """
    import numpy as np

    factors = np.array(weights)
    nearest_to_mean = -np.linalg.norm(features - features.mean(axis=0), axis=1)
    chosen = [int(np.lexsort((nearest_to_mean, factors))[-1])]
    distances: list[float | None] = [None]
    nearest = np.full(len(features), np.inf)
    while len(chosen) < min(count, len(features)):
        nearest = np.minimum(nearest, np.linalg.norm(features - features[chosen[-1]], axis=1))
        scores = nearest * factors
        scores[chosen] = -1
        chosen.append(int(scores.argmax()))
        distances.append(float(nearest[chosen[-1]]))
    return chosen, distances
