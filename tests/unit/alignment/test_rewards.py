"""Rewards of generations are computed with the metrics of their task and lie in [0, 1]."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from palitune.alignment.rewards import TaskReward
from palitune.errors import DataError
from palitune.metrics import METRICS
from palitune.metrics.base import MeanMetric
from palitune.metrics.reward_names import REWARD_NAMES
from palitune.records import Example, Instance, Row
from palitune.tasks import TASKS
from palitune.tasks.base import Task
from palitune.tasks.detection import Detection
from palitune.tasks.vqa import Vqa

MASK = np.zeros((100, 100), dtype=bool)
MASK[10:60, 20:70] = True
ROW = Row(
    id="1",
    images=("boats.png",),
    size=(100, 100),
    location="boats.jsonl:1",
    prefix=None,
    question="how many boats?",
    answers=("two", "2"),
    choices=("two", "three"),
    captions=("two boats lie in the harbour", "boats in a harbour"),
    text="<table><tr><td>a</td></tr></table>",
    expression="the boat on the left",
    classes=("boat",),
    instances=(Instance("boat", (20.0, 10.0, 70.0, 60.0), MASK),),
)


def example_of(task: Task) -> Example:
    row = ROW
    if task.name == "text":
        row = replace(row, prefix="count", suffix="two")
    if task.name == "json":
        row = replace(row, json='{"boats": 2}')
    if task.name == "science_qa":
        row = replace(row, answers=("two",))
    return task.example(row)


@pytest.mark.parametrize("name", TASKS)
def test_the_target_has_the_highest_reward_and_none_is_negative(name: str) -> None:
    task = TASKS[name](fields={"boats": "number"}) if name == "json" else TASKS[name]()
    example = example_of(task)
    other = replace(example, reference=("a dog sleeps on the warm sofa",))
    examples = [example, other] if isinstance(example.reference[0], str) else [example]
    reward = TaskReward(task, examples)
    best = reward(reward.parse_prediction(example.suffixes[0], example), example)
    assert (0.35 if name == "caption" else 0.8) < best <= 1  # no caption equals all the others
    assert 0 <= reward(reward.parse_prediction("", example), example) < best / 2
    assert 0 <= reward(reward.parse_prediction("<loc0001><loc0002>", example), example) < best / 2


def test_the_reward_is_the_weighted_mean_of_its_components() -> None:
    task = Detection(reward_weights={"mean_iou": 3, "valid": 1})
    example = example_of(task)
    reward = TaskReward(task, ())
    prediction = reward.parse_prediction(
        "<loc0102><loc0205><loc0614><loc0461> boat ; <loc00", example
    )
    components = reward.components(prediction, example)
    assert components == {"mean_iou": pytest.approx(0.5, abs=0.01), "valid": 0.0}
    assert reward(prediction, example) == pytest.approx(3 / 4 * components["mean_iou"])


def test_the_reward_of_an_error_rate_is_one_minus_the_rate() -> None:
    task = Vqa(reward_weights={"character_error_rate": 1})
    reward, example = TaskReward(task, ()), example_of(task)
    assert reward(reward.parse_prediction("tso", example), example) == pytest.approx(2 / 3)
    assert reward(reward.parse_prediction("a hundred of them", example), example) == 0


@pytest.mark.parametrize("value", [1.5, -0.1, float("nan")])
def test_a_reward_outside_its_range_is_rejected(
    value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(MeanMetric):
        def score(self, answer: str, references: tuple[str, ...]) -> float:
            return value

    monkeypatch.setitem(METRICS, "exact_match", lambda: Broken("exact_match"))
    task = Vqa()
    reward, example = TaskReward(task, ()), example_of(task)
    with pytest.raises(
        DataError,
        match=r"boats.jsonl:1: the reward exact_match must be at least 0 and at most 1, "
        r"got .* for 'two'",
    ):
        reward(reward.parse_prediction("two", example), example)


@pytest.mark.parametrize(
    ("rewards", "message"),
    [({"iou": 1}, "'iou' is not one of"), ({"spice": 1}, "not one of"), ({"valid": 0}, "above 0")],
)
def test_invalid_weights_are_rejected(rewards: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Vqa(reward_weights=rewards)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"reward_weights": {"mean_iou": 1}},
            r"boats.jsonl:1: the reward mean_iou cannot score .* vqa",
        ),
        ({"metrics": []}, "none of its metrics is a reward"),
    ],
)
def test_rewards_of_another_task_are_rejected(settings: dict[str, Any], message: str) -> None:
    task = Vqa(**settings)
    with pytest.raises(DataError, match=message):
        TaskReward(task, ()).check_applicable(example_of(task))


def test_every_metric_of_a_single_example_is_a_reward() -> None:
    assert set(METRICS) - set(REWARD_NAMES) == {"meteor", "spice"}
