"""Rewards of a generation in [0, 1], computed with the metrics of its task.

A reward has the name of a metric and is its score of one example, or 1 minus an error rate. Further
rewards are `mean_iou` and `mean_mask_iou`, which increase with every pixel that an object moves
towards its reference, and `valid`, which is 1 if all of the generation can be parsed.
"""

from collections.abc import Callable, Mapping, Sequence

from palitune.errors import DataError
from palitune.metrics import METRICS, higher_is_better
from palitune.metrics.reward_names import default_rewards
from palitune.records import Example, Prediction
from palitune.tasks.base import Task

RewardFn = Callable[[Prediction, Example], float]


class TaskReward:
    """The reward of a task: a weighted mean of components."""

    def __init__(self, task: Task, examples: Sequence[Example]) -> None:
        """`examples`: the training examples, from which CIDEr-D takes its word frequencies."""
        self.task = task
        self.weights: Mapping[str, float] = task.reward_weights or default_rewards(task.metrics)
        self._reward_fns = {name: _make_reward_fn(name, task, examples) for name in self.weights}

    def check_applicable(self, example: Example) -> None:
        """Raise DataError if a component cannot score generations of the task."""
        if not self.weights:
            raise DataError(
                f"task {self.task.name}: none of its metrics is a reward. Set task.reward_weights, "
                "e.g. 'task.reward_weights={valid: 1}'."
            )
        target = self.parse_prediction(example.suffixes[0], example)
        for name, score in self._reward_fns.items():
            try:
                score(target, example)
            except TypeError as error:
                raise DataError(
                    f"{example.location}: the reward {name} cannot score generations of task "
                    f"{self.task.name} ({error}). Set others in task.reward_weights."
                ) from error

    def __call__(self, prediction: Prediction, example: Example) -> float:
        """Return the weighted mean of the components."""
        return self.combine(self.components(prediction, example))

    def components(self, prediction: Prediction, example: Example) -> dict[str, float]:
        """Return every component by name. Raises DataError for a value outside [0, 1]."""
        values = {name: score(prediction, example) for name, score in self._reward_fns.items()}
        for name, value in values.items():
            if not 0 <= value <= 1:
                raise DataError(
                    f"{example.location}: the reward {name} must be at least 0 and at most 1, got "
                    f"{value} for {prediction.text!r}. Set others in task.reward_weights."
                )
        return values

    def combine(self, components: Mapping[str, float]) -> float:
        """Return the weighted mean of the components of one generation."""
        weighted = sum(weight * components[name] for name, weight in self.weights.items())
        return weighted / sum(self.weights.values())

    def parse_prediction(self, text: str, example: Example) -> Prediction:
        """Parse a generation."""
        return Prediction(id=example.id, text=text, value=self.task.parse(text, example.size))


def _make_reward_fn(name: str, task: Task, examples: Sequence[Example]) -> RewardFn:
    if name == "valid":
        return lambda prediction, _: float(
            prediction.value is not None and not task.count_malformed(prediction.text)
        )
    if name in ("mean_iou", "mean_mask_iou"):
        from palitune.metrics.objects.mean_iou import mean_iou

        return lambda prediction, example: mean_iou(
            prediction, example, masks=name == "mean_mask_iou"
        )
    if name == "cider_d":
        from palitune.metrics.captions.cider_reward import CaptionReward

        return CaptionReward(examples)
    return lambda prediction, example: _metric_reward(name, prediction, example)


def _metric_reward(name: str, prediction: Prediction, example: Example) -> float:
    """Score one generation by a metric; 0 if the metric has no score for it."""
    metric = METRICS[name]()
    scores = metric.update(example, prediction) or next(iter(metric.per_example_scores()), {})
    key, score = next(iter(scores.items()), (name, 0.0))
    return score if higher_is_better(key) else max(0.0, 1.0 - score)
