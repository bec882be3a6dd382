"""A reservoir is a uniform sample of a stream."""

from collections import Counter

from palitune.data.inspection.reservoir import Reservoir


def sample(capacity: int, num_items: int, seed: int = 0) -> list[int]:
    reservoir: Reservoir[int] = Reservoir(capacity, seed)
    for number in range(num_items):
        reservoir.add(lambda number=number: number)  # type: ignore[misc]
    return reservoir.samples()


def test_a_short_stream_is_sampled_completely_and_a_capacity_of_zero_samples_nothing() -> None:
    assert sample(5, 3) == [0, 1, 2]
    assert sample(0, 3) == []


def test_a_sample_is_in_order_without_repetition_and_reproducible() -> None:
    first = sample(20, 1000)
    assert first == sorted(set(first)) == sample(20, 1000)
    assert len(first) == 20


def test_each_item_is_equally_likely() -> None:
    times = Counter(number for seed in range(2000) for number in sample(3, 12, seed))
    assert set(times) == set(range(12))
    # 500 expected of each; the standard deviation is 19.
    assert all(400 < count < 600 for count in times.values())


def test_only_sampled_items_are_created() -> None:
    reservoir: Reservoir[int] = Reservoir(2)
    created: list[int] = []

    def create(number: int) -> int:
        created.append(number)
        return number

    for number in range(1000):
        reservoir.add(lambda number=number: create(number))  # type: ignore[misc]
    assert len(created) < 40
