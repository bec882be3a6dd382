"""Names of the rewards of `palitune align`, their defaults and the check of their weights."""

import math
from collections.abc import Mapping, Sequence

from palitune.metrics import METRICS

REWARD_NAMES = (
    # METEOR and SPICE start a Java program for every call.
    *sorted(set(METRICS) - {"meteor", "spice"}),
    "mean_iou",
    "mean_mask_iou",
    "valid",
)
_DENSE_REWARDS = {"detection": "mean_iou", "segmentation": "mean_mask_iou"}
"""Default reward in place of a metric that only counts objects above an IoU threshold."""


def default_rewards(metrics: Sequence[str]) -> dict[str, float]:
    """Return the weights for a task that sets none: its first metric that is a reward."""
    names = [_DENSE_REWARDS.get(metric, metric) for metric in metrics]
    return dict.fromkeys([name for name in names if name in REWARD_NAMES][:1], 1.0)


def check_reward_weights(weights: Mapping[str, float]) -> None:
    """Raise ValueError for an unknown reward or a weight that is not above 0."""
    for name, weight in weights.items():
        if name not in REWARD_NAMES:
            raise ValueError(
                f"task.reward_weights: {name!r} is not one of {', '.join(REWARD_NAMES)}"
            )
        if not (weight > 0 and math.isfinite(weight)):
            raise ValueError(f"task.reward_weights.{name} must be above 0, got {weight}.")
