"""A weighted mixture visits each component in proportion to its weight."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from palitune.data.mixture_schedule import MixtureSchedule

COMPONENTS = st.lists(st.tuples(st.integers(1, 60), st.floats(0.5, 2)), min_size=1, max_size=4)


@given(components=COMPONENTS, epochs=st.integers(1, 5))
def test_over_any_epochs_a_component_has_its_share_and_visits_its_examples_equally_often(
    components: list[tuple[int, float]], epochs: int
) -> None:
    sizes, weights = [size for size, _ in components], [weight for _, weight in components]
    schedule = MixtureSchedule(sizes, weights, 0)
    visits_by_epoch = [schedule.epoch_visits(epoch) for epoch in range(epochs)]
    assert all(sum(map(len, visits)) == sum(sizes) for visits in visits_by_epoch)
    for component, (size, weight) in enumerate(components):
        visits = [visit for by_component in visits_by_epoch for visit in by_component[component]]
        assert abs(len(visits) - weight / sum(weights) * epochs * sum(sizes)) <= 1
        assert all(schedule.component_of(index) == component for index, _ in visits)
        counts = Counter(index for index, _ in visits)
        assert max(counts.values(), default=0) - min(counts.values(), default=0) <= 1
        assert len(counts) == min(size, len(visits))
        for index, count in counts.items():
            repeats = [repeat for example, repeat in visits if example == index]
            assert sorted(repeats) == list(range(count))
