"""Sampled answers and what they are worth, by the rewards of their tasks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from palitune.data.dataset import Part
from palitune.data.visits import Visit
from palitune.examples import Example, Prediction, value_to_json
from palitune.tasks.rewards import Rewards


@dataclass(frozen=True, kw_only=True)
class Scored:
    """One sampled answer."""

    visit: Visit
    prediction: Prediction
    components: Mapping[str, float]
    """Each reward by name."""
    reward: float
    """Their weighted mean."""

    @property
    def example(self) -> Example:
        return self.visit.example


class Scorer:
    """Judges answers to the examples of several parts, each by the rewards of its task."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._rewards: dict[str, Rewards] = {
            part.name: part.task.reward(part.examples) for part in parts
        }

    def score(self, text: str, visit: Visit) -> Scored:
        """Judge one answer. Raises DataError for a reward outside of [0, 1]."""
        example, rewards = visit.example, self._rewards[visit.example.part]
        prediction = rewards.read(text, example)
        components = rewards.components(prediction, example)
        return Scored(
            visit=visit,
            prediction=prediction,
            components=components,
            reward=rewards.total(components),
        )


def groups(scored: Sequence[Scored], size: int) -> list[Sequence[Scored]]:
    """Cut answers that stand in the order of their prompts into those of each prompt."""
    return [scored[start : start + size] for start in range(0, len(scored), size)]


def to_json(group: Sequence[Scored], step: int) -> dict[str, Any]:
    """Write the answers to one prompt, the best first, as a line of `samples.jsonl`."""
    example, views = group[0].example, group[0].visit.views
    return {
        "step": step,
        "part": example.part,
        "id": example.id,
        "images": list(example.images),
        "window": views[0].window if views else None,
        "mirrored": bool(views) and views[0].mirrored,
        "size": list(example.size),
        "prefix": example.prefix,
        "reference": value_to_json(example.reference),
        "answers": [
            {
                "text": one.prediction.text,
                "prediction": value_to_json(one.prediction.value),
                "reward": one.reward,
                "rewards": dict(one.components),
            }
            for one in sorted(group, key=lambda one: -one.reward)
        ],
    }
