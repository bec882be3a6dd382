"""Index encoding, target sampling, and examples that a task randomizes on each sample."""

from collections import Counter
from dataclasses import replace

import pytest

from palitune.data.mixture_schedule import MixtureSchedule
from palitune.data.training_set import TargetSampling, TrainingSet
from palitune.records import Example, Row
from palitune.tasks.science_qa import ScienceQa

ANSWERS = ("red", "red", "red", "maroon", "dark red")


@pytest.fixture
def example() -> Example:
    return Example(
        id="1",
        images=("/a.png",),
        size=(9, 9),
        prefix="answer en what colour is it?",
        suffixes=ANSWERS,
        reference=ANSWERS,
        location="a:1",
    )


def suffixes_by_epoch(training_set: TrainingSet, epochs: int, index: int = 0) -> list[str]:
    suffixes = []
    for epoch in range(epochs):
        training_set.set_epoch(epoch)
        suffixes.append(training_set[index].suffix)
    return suffixes


def test_a_cycle_uses_every_entry_of_the_answer_list_once(
    example: Example,
) -> None:
    training_set = TrainingSet([example], TargetSampling.cycle, seed=0)
    suffixes = suffixes_by_epoch(training_set, epochs=4 * len(ANSWERS))
    cycles = [
        suffixes[start : start + len(ANSWERS)] for start in range(0, len(suffixes), len(ANSWERS))
    ]
    assert all(Counter(cycle) == Counter(ANSWERS) for cycle in cycles)


def test_every_cycle_of_every_example_has_a_different_order(example: Example) -> None:
    training_set = TrainingSet(
        [replace(example, suffixes=tuple("abcdefghij"))] * 2, TargetSampling.cycle, seed=0
    )
    first, second = suffixes_by_epoch(training_set, 10), suffixes_by_epoch(training_set, 20)[10:]
    other = suffixes_by_epoch(training_set, 10, index=1)
    assert len({tuple(first), tuple(second), tuple(other)}) == 3
    assert first == suffixes_by_epoch(training_set, 10)


def test_the_majority_is_the_most_frequent_answer_and_the_first_of_a_tie(
    example: Example,
) -> None:
    tied = replace(example, suffixes=("two", "2", "2", "two", "3"))
    training_set = TrainingSet([example, tied], TargetSampling.majority, seed=0)
    assert suffixes_by_epoch(training_set, 3) == ["red"] * 3
    assert suffixes_by_epoch(training_set, 3, index=1) == ["two"] * 3


def test_a_task_shuffles_its_choices_on_every_visit_and_changes_the_answer_with_them() -> None:
    row = Row(
        id="1",
        images=("/a.png",),
        size=(9, 9),
        location="a:1",
        question="Which is it?",
        answers=("owl",),
        choices=("cat", "owl", "dog", "(A) bee, (B) fly"),
    )
    task = ScienceQa()
    example = replace(task.example(row), component="science_qa")
    training_set = TrainingSet([example], TargetSampling.first, 0, {"science_qa": task})
    letters, prompts = set(), set()
    for epoch in range(40):
        training_set.set_epoch(epoch)
        sample = training_set[0]
        letter = sample.suffix.removeprefix("The answer is ").removesuffix(".")
        assert f"({letter}) owl" in sample.example.prefix
        assert sample.example.prefix.startswith(
            "Question: Which is it?\nContext: N/A\nOptions: (A) "
        )
        assert sample.example.prefix.endswith("\nAnswer:")
        letters.add(letter)
        prompts.add(sample.example.prefix)
    assert letters == set("ABCD")
    assert len(prompts) > 15
    assert TrainingSet([example], TargetSampling.first, 0)[0].example is example
    unshuffled = {"science_qa": ScienceQa(shuffle=False)}
    assert TrainingSet([example], TargetSampling.first, 0, unshuffled)[0].example is example


def test_a_sample_index_encodes_the_example_and_its_earlier_visits(example: Example) -> None:
    training_set = TrainingSet([example] * 3, TargetSampling.first, seed=0)
    training_set.set_epoch(5)
    assert training_set.epoch_indices() == [[0, 1, 2]]
    assert [training_set.decode_index(index) for index in (0, 1, 2)] == [(0, 5), (1, 5), (2, 5)]
    for example_index in range(3):
        for repeat in range(4):
            index = training_set.encode_index(example_index, repeat)
            assert training_set.decode_index(index) == (example_index, repeat)
            assert training_set.example_index(index) == example_index


def test_an_epoch_of_a_mixture_has_the_encoded_visits_of_its_schedule(example: Example) -> None:
    schedule = MixtureSchedule([1, 3], [1.0, 1.0], seed=0)
    training_set = TrainingSet([example] * 4, TargetSampling.first, 0, None, schedule)
    for epoch in range(3):
        training_set.set_epoch(epoch)
        for component, indices in enumerate(training_set.epoch_indices()):
            assert [training_set.component_index(index) for index in indices] == [component] * 2
            visits = [training_set.decode_index(index) for index in indices]
            assert visits == schedule.epoch_visits(epoch)[component]
