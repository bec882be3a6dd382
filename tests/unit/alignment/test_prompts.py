"""Longer runs start with the order of shorter ones, and an epoch has each prompt once."""

from palitune.alignment.completion_log import steps_to_log
from palitune.alignment.prompts import PromptOrder
from palitune.data.training_set import TargetSampling, TrainingSet
from palitune.records import Example

EXAMPLES = [
    Example(
        id=str(number),
        images=(),
        size=(1, 1),
        prefix="",
        suffixes=("a",),
        reference=("a",),
        location="",
    )
    for number in range(7)
]


def ids(count: int, seed: int = 0) -> list[str]:
    return [
        sample.example.id
        for sample in PromptOrder(TrainingSet(EXAMPLES, TargetSampling.first, seed), count)
    ]


def test_a_longer_run_starts_with_the_order_of_a_shorter_one() -> None:
    assert ids(20)[:11] == ids(11)
    assert ids(11) != ids(11, seed=1)


def test_every_epoch_has_each_prompt_once_in_another_order() -> None:
    order = ids(14)
    assert sorted(order[:7]) == sorted(order[7:]) == [example.id for example in EXAMPLES]
    assert order[:7] != order[7:]


def test_the_first_and_the_last_step_are_logged() -> None:
    assert steps_to_log(100) == {1, 21, 41, 60, 80, 100}
    assert steps_to_log(2) == {1, 2}
    assert steps_to_log(1) == {1}
