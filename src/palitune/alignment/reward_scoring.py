"""Sampled generations and their rewards."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from palitune.alignment.rewards import TaskReward
from palitune.data.dataset import TaskDataset
from palitune.data.training_set import TrainingSample
from palitune.records import Example, Prediction, value_to_json


@dataclass(frozen=True, kw_only=True)
class ScoredCompletion:
    """A sampled generation with its reward."""

    sample: TrainingSample
    prediction: Prediction
    reward_components: Mapping[str, float]
    """Rewards by name."""
    reward: float
    """Weighted mean of the components."""

    @property
    def example(self) -> Example:
        return self.sample.example


CompletionGroup = Sequence[ScoredCompletion]
"""The generations for one prompt."""


class RewardScorer:
    """Scores generations for examples of several components, each by the reward of its task."""

    def __init__(self, datasets: Sequence[TaskDataset]) -> None:
        self._rewards = {
            dataset.name: TaskReward(dataset.task, dataset.examples) for dataset in datasets
        }

    def score(self, text: str, sample: TrainingSample) -> ScoredCompletion:
        """Score a generation. Raises DataError for a reward outside [0, 1]."""
        example, reward = sample.example, self._rewards[sample.example.component]
        prediction = reward.parse_prediction(text, example)
        components = reward.components(prediction, example)
        return ScoredCompletion(
            sample=sample,
            prediction=prediction,
            reward_components=components,
            reward=reward.combine(components),
        )


def group_by_prompt(
    completions: Sequence[ScoredCompletion], group_size: int
) -> list[CompletionGroup]:
    """Split generations in the order of their prompts into one group per prompt."""
    return [
        completions[start : start + group_size] for start in range(0, len(completions), group_size)
    ]


def group_to_json(group: CompletionGroup, step: int) -> dict[str, Any]:
    """Return the generations for one prompt, highest reward first, as a line of `samples.jsonl`."""
    example, transforms = group[0].example, group[0].sample.transforms
    return {
        "step": step,
        "part": example.component,
        "id": example.id,
        "images": list(example.images),
        "window": transforms[0].crop_box if transforms else None,
        "mirrored": bool(transforms) and transforms[0].hflip,
        "size": list(example.size),
        "prefix": example.prefix,
        "reference": value_to_json(example.reference),
        "answers": [
            {
                "text": completion.prediction.text,
                "prediction": value_to_json(completion.prediction.value),
                "reward": completion.reward,
                "rewards": dict(completion.reward_components),
            }
            for completion in sorted(group, key=lambda completion: -completion.reward)
        ],
    }
