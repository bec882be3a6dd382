"""Names of the rewards that `palitune align` can train for, their defaults and the check of weights."""

import math
from collections.abc import Mapping, Sequence

from palitune.metrics import METRICS

CORPUS_ONLY_METRICS = ("meteor", "spice")
"""Metrics that are no rewards: each judgement starts a program."""
REWARD_NAMES = (
    *sorted(set(METRICS) - set(CORPUS_ONLY_METRICS)),
    "mean_iou",
    "mean_mask_iou",
    "valid",
)
DENSE_REWARDS = {"detection": "mean_iou", "segmentation": "mean_mask_iou"}
"""What stands for a metric that only counts objects, where a task says nothing else."""


def default_rewards(metrics: Sequence[str]) -> dict[str, float]:
    """Return the weights where a task names none: its first metric that is a reward."""
    named = [DENSE_REWARDS.get(metric, metric) for metric in metrics]
    return dict.fromkeys([name for name in named if name in REWARD_NAMES][:1], 1.0)


def check_reward_weights(weights: Mapping[str, float]) -> None:
    """Refuse weights of rewards that do not exist, or that are none. Raises ValueError."""
    for name, weight in weights.items():
        if name not in REWARD_NAMES:
            raise ValueError(
                f"task.reward_weights: {name!r} is not one of {', '.join(REWARD_NAMES)}"
            )
        if not (weight > 0 and math.isfinite(weight)):
            raise ValueError(f"task.reward_weights.{name} must be above 0, not {weight}")
