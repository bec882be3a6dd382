"""What an answer is worth, in [0, 1], by the metrics of its task: what `palitune align` trains for.

A reward has the name of the metric whose score of one example it is (of an error rate, what is
missing to 1). Besides there are `mean_iou` and `mean_mask_iou`, which grow with every pixel that an
object is nearer to its place, and `valid`, which only asks whether all of an answer can be read.
"""

from collections.abc import Callable, Mapping, Sequence

from palitune.errors import DataError
from palitune.metrics import METRICS, higher_is_better
from palitune.metrics.reward_names import default_rewards
from palitune.records import Example, Prediction
from palitune.tasks.base import Task

RewardFn = Callable[[Prediction, Example], float]


class TaskReward:
    """The rewards of one task, ready to judge; `examples` are those that it learns from."""

    def __init__(self, task: Task, examples: Sequence[Example]) -> None:
        self.task = task
        self.weights: Mapping[str, float] = task.reward_weights or default_rewards(task.metrics)
        self._reward_fns = {name: _make_reward_fn(name, task, examples) for name in self.weights}

    def check_applicable(self, example: Example) -> None:
        """Refuse what cannot judge an answer of the task. Raises DataError."""
        if not self.weights:
            raise DataError(
                f"task {self.task.name}: none of its metrics is a reward; name what its answers "
                "are worth in task.reward_weights, e.g. 'task.reward_weights={valid: 1}'"
            )
        target = self.parse_prediction(example.suffixes[0], example)
        for name, score in self._reward_fns.items():
            try:
                score(target, example)
            except TypeError as fault:
                raise DataError(
                    f"{example.location}: the reward {name} cannot judge answers of task "
                    f"{self.task.name} ({fault}); choose others in task.reward_weights"
                ) from fault

    def __call__(self, prediction: Prediction, example: Example) -> float:
        """Return the weighted mean of the components."""
        return self.combine(self.components(prediction, example))

    def components(self, prediction: Prediction, example: Example) -> dict[str, float]:
        """Return every reward by name. Raises DataError for one that is none."""
        found = {name: score(prediction, example) for name, score in self._reward_fns.items()}
        for name, value in found.items():
            if not 0 <= value <= 1:
                raise DataError(
                    f"{example.location}: the reward {name} of {prediction.text!r} is {value}, and "
                    "rewards lie in [0, 1]; choose others in task.reward_weights"
                )
        return found

    def combine(self, components: Mapping[str, float]) -> float:
        """Return the weighted mean of the components of one answer."""
        weighted = sum(weight * components[name] for name, weight in self.weights.items())
        return weighted / sum(self.weights.values())

    def parse_prediction(self, text: str, example: Example) -> Prediction:
        """Read an answer as the task does."""
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
    """Judge one answer by a metric; one that has no score for it gives 0."""
    metric = METRICS[name]()
    scores = metric.update(example, prediction) or next(iter(metric.per_example_scores()), {})
    number, score = next(iter(scores.items()), (name, 0.0))
    return score if higher_is_better(number) else max(0.0, 1.0 - score)
