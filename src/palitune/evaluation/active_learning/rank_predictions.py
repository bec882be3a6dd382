"""Ranking of the images of a prediction run."""

from collections.abc import Sequence
from typing import Any

from palitune.evaluation.active_learning.ranking import RankBy, RankedImage, rank_images
from palitune.evaluation.active_learning.signals import answer_margins, vision_features
from palitune.evaluation.config import EvaluationConfig
from palitune.records import Example, Prediction


def rank_predictions(
    network: Any,
    processor: Any,
    predicted: Sequence[tuple[Example, Prediction]],
    by: RankBy,
    count: int,
    settings: EvaluationConfig,
) -> list[RankedImage]:
    """Return the images of a prediction run that are most worth labeling.

    Args:
        network: Model with or without adapter.
        processor: Processor of the model.
        predicted: Examples with their predictions, at least one.
        by: Criterion.
        count: Maximum number of images.
        settings: Evaluation settings.
    """
    examples = [example for example, _ in predicted]
    predictions = [prediction for _, prediction in predicted]
    margins: list[float | None] = [None] * len(examples)
    if by is not RankBy.diversity:
        margins = answer_margins(network, processor, examples, predictions, settings)
    features = None
    if by is not RankBy.uncertainty:
        features = vision_features(network, processor, examples, settings)
    return rank_images(by, predictions, margins, features, count)
