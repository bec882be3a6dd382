"""What an answer is worth, in [0, 1], by the metrics of its task: what `palitune align` trains for.

A reward has the name of the metric whose score of one example it is (of an error rate, what is
missing to 1). Besides there are `mean_iou` and `mean_mask_iou`, which grow with every pixel that an
object is nearer to its place, and `valid`, which only asks whether all of an answer can be read.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from palitune.examples import DataError, Example, Prediction
from palitune.metrics import METRICS, higher_is_better

if TYPE_CHECKING:
    from palitune.tasks.base import Task

Score = Callable[[Prediction, Example], float]

OF_WHOLE_TEST_SETS = ("meteor", "spice")
"""Metrics that are no rewards: each judgement starts a program."""
REWARDS = (*sorted(set(METRICS) - set(OF_WHOLE_TEST_SETS)), "mean_iou", "mean_mask_iou", "valid")
GRADUAL = {"detection": "mean_iou", "segmentation": "mean_mask_iou"}
"""What stands for a metric that only counts objects, where a task says nothing else."""


class Rewards:
    """The rewards of one task, ready to judge; `examples` are those that it learns from."""

    def __init__(self, task: "Task", examples: Sequence[Example]) -> None:
        self.task = task
        self.weights: Mapping[str, float] = task.rewards or usual(task.metrics)
        self._scores = {name: _score(name, task, examples) for name in self.weights}

    def check(self, example: Example) -> None:
        """Refuse what cannot judge an answer of the task. Raises DataError."""
        if not self.weights:
            raise DataError(
                f"task {self.task.name}: none of its metrics is a reward; name what its answers "
                "are worth in task.rewards, e.g. 'task.rewards={valid: 1}'"
            )
        target = self.read(example.suffixes[0], example)
        for name, score in self._scores.items():
            try:
                score(target, example)
            except TypeError as fault:
                raise DataError(
                    f"{example.place}: the reward {name} cannot judge answers of task "
                    f"{self.task.name} ({fault}); choose others in task.rewards"
                ) from fault

    def __call__(self, prediction: Prediction, example: Example) -> float:
        """Return the weighted mean of the components."""
        return self.total(self.components(prediction, example))

    def components(self, prediction: Prediction, example: Example) -> dict[str, float]:
        """Return every reward by name. Raises DataError for one that is none."""
        found = {name: score(prediction, example) for name, score in self._scores.items()}
        for name, value in found.items():
            if not 0 <= value <= 1:
                raise DataError(
                    f"{example.place}: the reward {name} of {prediction.text!r} is {value}, and "
                    "rewards lie in [0, 1]; choose others in task.rewards"
                )
        return found

    def total(self, components: Mapping[str, float]) -> float:
        """Return the weighted mean of the components of one answer."""
        weighted = sum(weight * components[name] for name, weight in self.weights.items())
        return weighted / sum(self.weights.values())

    def read(self, text: str, example: Example) -> Prediction:
        """Read an answer as the task does."""
        return Prediction(id=example.id, text=text, value=self.task.parse(text, example.size))


def usual(metrics: Sequence[str]) -> dict[str, float]:
    """Return the weights where a task names none: its first metric that is a reward."""
    named = [GRADUAL.get(metric, metric) for metric in metrics]
    return dict.fromkeys([name for name in named if name in REWARDS][:1], 1.0)


def check_weights(weights: Mapping[str, float]) -> None:
    """Refuse weights of rewards that do not exist, or that are none. Raises ValueError."""
    for name, weight in weights.items():
        if name not in REWARDS:
            raise ValueError(f"task.rewards: {name!r} is not one of {', '.join(REWARDS)}")
        if not (weight > 0 and math.isfinite(weight)):
            raise ValueError(f"task.rewards.{name} must be above 0, not {weight}")


def _score(name: str, task: "Task", examples: Sequence[Example]) -> Score:
    if name == "valid":
        return lambda prediction, _: float(
            prediction.value is not None and not task.unreadable(prediction.text)
        )
    if name in ("mean_iou", "mean_mask_iou"):
        from palitune.metrics.mean_overlap import mean_iou

        return lambda prediction, example: mean_iou(
            prediction, example, masks=name == "mean_mask_iou"
        )
    if name == "cider_d":
        from palitune.metrics.caption_reward import CaptionReward

        return CaptionReward(examples)
    return lambda prediction, example: _by_metric(name, prediction, example)


def _by_metric(name: str, prediction: Prediction, example: Example) -> float:
    """Judge one answer by a metric; one that has no score for it gives 0."""
    metric = METRICS[name]()
    scores = metric.update(example, prediction) or next(iter(metric.corpus_scores()), {})
    number, score = next(iter(scores.items()), (name, 0.0))
    return score if higher_is_better(number) else max(0.0, 1.0 - score)
