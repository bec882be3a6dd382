"""Which target a visit trains on, and that tasks may write an example anew for it."""

from collections import Counter
from dataclasses import replace

import pytest

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


def seen(visits: TrainingSet, epochs: int, index: int = 0) -> list[str]:
    found = []
    for epoch in range(epochs):
        visits.set_epoch(epoch)
        found.append(visits[index].suffix)
    return found


def test_a_cycle_visits_every_listed_answer_once_so_that_equal_ones_count_as_often_as_given(
    example: Example,
) -> None:
    visits = TrainingSet([example], TargetSampling.cycle, seed=0)
    drawn = seen(visits, epochs=4 * len(ANSWERS))
    cycles = [drawn[start : start + len(ANSWERS)] for start in range(0, len(drawn), len(ANSWERS))]
    assert all(Counter(cycle) == Counter(ANSWERS) for cycle in cycles)


def test_every_cycle_of_every_example_has_an_order_of_its_own(example: Example) -> None:
    visits = TrainingSet(
        [replace(example, suffixes=tuple("abcdefghij"))] * 2, TargetSampling.cycle, seed=0
    )
    first, second = seen(visits, 10), seen(visits, 20)[10:]
    other = seen(visits, 10, index=1)
    assert len({tuple(first), tuple(second), tuple(other)}) == 3
    assert first == seen(visits, 10)


def test_the_majority_is_the_most_frequent_answer_and_among_equals_the_first(
    example: Example,
) -> None:
    tied = replace(example, suffixes=("two", "2", "2", "two", "3"))
    visits = TrainingSet([example, tied], TargetSampling.majority, seed=0)
    assert seen(visits, 3) == ["red"] * 3
    assert seen(visits, 3, index=1) == ["two"] * 3


def test_a_task_shuffles_its_choices_on_every_visit_and_the_answer_follows() -> None:
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
    visits = TrainingSet([example], TargetSampling.first, 0, {"science_qa": task})
    letters, prompts = set(), set()
    for epoch in range(40):
        visits.set_epoch(epoch)
        visit = visits[0]
        letter = visit.suffix.removeprefix("The answer is ").removesuffix(".")
        assert f"({letter}) owl" in visit.example.prefix
        assert visit.example.prefix.startswith(
            "Question: Which is it?\nContext: N/A\nOptions: (A) "
        )
        assert visit.example.prefix.endswith("\nAnswer:")
        letters.add(letter)
        prompts.add(visit.example.prefix)
    assert letters == set("ABCD")
    assert len(prompts) > 15
    assert TrainingSet([example], TargetSampling.first, 0)[0].example is example
    kept = TrainingSet([example], TargetSampling.first, 0, {"science_qa": ScienceQa(shuffle=False)})
    assert kept[0].example is example
