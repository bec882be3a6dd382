"""Sampled answers and what they are worth, by the rewards of their tasks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from palitune.alignment.rewards import TaskReward
from palitune.data.dataset import TaskDataset
from palitune.data.training_set import TrainingSample
from palitune.records import Example, Prediction, value_to_json


@dataclass(frozen=True, kw_only=True)
class ScoredCompletion:
    """One sampled answer."""

    sample: TrainingSample
    prediction: Prediction
    reward_components: Mapping[str, float]
    """Each reward by name."""
    reward: float
    """Their weighted mean."""

    @property
    def example(self) -> Example:
        return self.sample.example


class RewardScorer:
    """Judges answers to the examples of several parts, each by the rewards of its task."""

    def __init__(self, datasets: Sequence[TaskDataset]) -> None:
        self._rewards: dict[str, TaskReward] = {
            part.name: TaskReward(part.task, part.examples) for part in datasets
        }

    def score(self, text: str, sample: TrainingSample) -> ScoredCompletion:
        """Judge one answer. Raises DataError for a reward outside of [0, 1]."""
        example, rewards = sample.example, self._rewards[sample.example.component]
        prediction = rewards.parse_prediction(text, example)
        components = rewards.components(prediction, example)
        return ScoredCompletion(
            sample=sample,
            prediction=prediction,
            reward_components=components,
            reward=rewards.combine(components),
        )


def group_by_prompt(
    completions: Sequence[ScoredCompletion], group_size: int
) -> list[Sequence[ScoredCompletion]]:
    """Cut answers that stand in the order of their prompts into those of each prompt."""
    return [
        completions[start : start + group_size] for start in range(0, len(completions), group_size)
    ]


def group_to_json(group: Sequence[ScoredCompletion], step: int) -> dict[str, Any]:
    """Write the answers to one prompt, the best first, as a line of `samples.jsonl`."""
    example, views = group[0].example, group[0].sample.transforms
    return {
        "step": step,
        "part": example.component,
        "id": example.id,
        "images": list(example.images),
        "window": views[0].crop_box if views else None,
        "mirrored": bool(views) and views[0].hflip,
        "size": list(example.size),
        "prefix": example.prefix,
        "reference": value_to_json(example.reference),
        "answers": [
            {
                "text": one.prediction.text,
                "prediction": value_to_json(one.prediction.value),
                "reward": one.reward,
                "rewards": dict(one.reward_components),
            }
            for one in sorted(group, key=lambda one: -one.reward)
        ],
    }
