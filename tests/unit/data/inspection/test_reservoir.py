"""Some out of many."""

from collections import Counter

from palitune.data.inspection.reservoir import Reservoir


def drawn(count: int, offered: int, seed: int = 0) -> list[int]:
    reservoir: Reservoir[int] = Reservoir(count, seed)
    for number in range(offered):
        reservoir.add(lambda number=number: number)  # type: ignore[misc]
    return reservoir.samples()


def test_all_are_drawn_where_there_are_few_and_none_where_none_is_wanted() -> None:
    assert drawn(5, 3) == [0, 1, 2]
    assert drawn(0, 3) == []


def test_the_draw_is_in_order_without_repetition_and_the_same_every_time() -> None:
    first = drawn(20, 1000)
    assert first == sorted(set(first)) == drawn(20, 1000)
    assert len(first) == 20


def test_each_is_as_likely_as_any_other() -> None:
    times = Counter(number for seed in range(2000) for number in drawn(3, 12, seed))
    assert set(times) == set(range(12))
    # 500 expected of each; the standard deviation is 19.
    assert all(400 < count < 600 for count in times.values())


def test_only_what_is_drawn_is_made() -> None:
    reservoir: Reservoir[int] = Reservoir(2)
    made: list[int] = []

    def make(number: int) -> int:
        made.append(number)
        return number

    for number in range(1000):
        reservoir.add(lambda number=number: make(number))  # type: ignore[misc]
    assert len(made) < 40
