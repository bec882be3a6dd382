"""The order of a run's prompts is that of any longer run, and every epoch has each of them once."""

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
        one.example.id
        for one in PromptOrder(TrainingSet(EXAMPLES, TargetSampling.first, seed), count)
    ]


def test_a_longer_run_begins_as_a_shorter_one() -> None:
    assert ids(20)[:11] == ids(11)
    assert ids(11) != ids(11, seed=1)


def test_every_epoch_has_each_prompt_once_in_an_order_of_its_own() -> None:
    order = ids(14)
    assert sorted(order[:7]) == sorted(order[7:]) == [one.id for one in EXAMPLES]
    assert order[:7] != order[7:]


def test_the_first_and_the_last_step_are_shown() -> None:
    assert steps_to_log(100) == {1, 21, 41, 60, 80, 100}
    assert steps_to_log(2) == {1, 2}
    assert steps_to_log(1) == {1}
