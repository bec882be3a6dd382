"""Weighted parts have their shares of every stretch, in every order and on every process."""

from collections import Counter
from itertools import chain, islice

import pytest
from accelerate.data_loader import BatchSamplerShard
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import BatchSampler

from palitune.data.by_image import GroupByImageSampler
from palitune.data.by_length import LengthGroupedSampler
from palitune.data.mixing import MixtureSchedule, decode_sample_index, interleave_evenly
from palitune.data.samplers import WeightedMixtureSampler
from palitune.data.training_set import TargetSampling, TrainingSet
from palitune.records import Example

SIZES, WEIGHTS = [900, 40, 3000], [5.0, 2.0, 1.0]
DRAWS = 10_000
PARTS = st.lists(st.tuples(st.integers(1, 60), st.floats(0.5, 2)), min_size=1, max_size=4)


def visits_to(sizes: list[int], weights: list[float], seed: int = 0) -> TrainingSet:
    """Parts of so many examples; all parts show the same images, as far as they have as many."""
    examples = [
        Example(
            id=str(number),
            images=(f"{number}.png",),
            size=(4, 4),
            prefix=str(part),
            suffixes=("a", "b", "c"),
            reference=("a", "b", "c"),
            location="here",
            component=str(part),
        )
        for part, size in enumerate(sizes)
        for number in range(size)
    ]
    return TrainingSet(
        examples, TargetSampling.cycle, seed, None, MixtureSchedule(sizes, weights, seed)
    )


def order_of(
    visits: TrainingSet, name: str
) -> WeightedMixtureSampler | GroupByImageSampler | LengthGroupedSampler:
    assert visits.mixture_schedule is not None
    lengths = [len(e.prefix) + int(e.id) % 50 for e in visits.examples]
    return {
        "in proportion": WeightedMixtureSampler(visits, visits.mixture_schedule),
        "by image": GroupByImageSampler(visits, 4),
        "by length": LengthGroupedSampler(visits, lengths, 16, 0),
    }[name]


@pytest.mark.parametrize(("processes", "batch"), [(1, 1), (2, 1), (2, 8)])
@pytest.mark.parametrize("order", ["in proportion", "by image", "by length"])
def test_every_process_draws_each_part_by_its_weight(
    order: str, batch: int, processes: int
) -> None:
    for rank in range(processes):
        visits = visits_to(SIZES, WEIGHTS)
        batches = BatchSamplerShard(
            BatchSampler(order_of(visits, order), batch, drop_last=False), processes, rank
        )

        drawn: list[int] = []
        while len(drawn) < DRAWS:
            drawn += chain.from_iterable(batches)
            visits.set_epoch(visits.epoch + 1)
        counts = Counter(visits[index].example.component for index in drawn[:DRAWS])
        shares = [counts[str(part)] / DRAWS for part in range(len(SIZES))]
        assert shares == pytest.approx([w / sum(WEIGHTS) for w in WEIGHTS], abs=0.01)


@given(parts=PARTS, epochs=st.integers(1, 5))
def test_over_any_epochs_a_part_has_its_share_to_a_visit_and_its_examples_equally_often(
    parts: list[tuple[int, float]], epochs: int
) -> None:
    sizes, weights = [size for size, _ in parts], [weight for _, weight in parts]
    proportions = MixtureSchedule(sizes, weights, 0)
    drawn = [proportions.indices_by_component(epoch) for epoch in range(epochs)]
    assert all(sum(map(len, epoch)) == sum(sizes) for epoch in drawn)
    for part, (size, weight) in enumerate(parts):
        visits = [index for epoch in drawn for index in epoch[part]]
        assert abs(len(visits) - weight / sum(weights) * epochs * sum(sizes)) <= 1
        assert all(proportions.component_of(index) == part for index in visits)
        turns = [decode_sample_index(index, sum(sizes), epoch=99) for index in visits]
        counts = Counter(place for place, _ in turns)
        assert max(counts.values(), default=0) - min(counts.values(), default=0) <= 1
        assert len(counts) == min(size, len(visits))
        for place, count in counts.items():
            assert sorted(turn for other, turn in turns if other == place) == list(range(count))


@given(st.lists(st.integers(0, 40), min_size=1, max_size=4), st.floats(0, 1))
def test_a_stretch_of_things_that_are_spread_holds_each_kind_in_its_share(
    counts: list[int], start: float
) -> None:
    kinds = [[(kind, number) for number in range(count)] for kind, count in enumerate(counts)]
    mixed = interleave_evenly(kinds, start)
    for kind, count in enumerate(counts):
        assert [thing for thing in mixed if thing[0] == kind] != [] or not count
        for end in range(len(mixed)):
            found = sum(thing[0] == kind for thing in islice(mixed, end))
            assert abs(found - count / len(mixed) * end) < 4


def test_the_answers_of_an_example_take_turns_over_its_visits_in_one_epoch_and_the_next() -> None:
    visits = visits_to([2, 40], [20.0, 22.0])
    seen: dict[str, list[str]] = {}
    for epoch in range(3):
        visits.set_epoch(epoch)
        for index in order_of(visits, "in proportion"):
            visit = visits[index]
            if visit.example.component == "0":
                seen.setdefault(visit.example.id, []).append(visit.suffix)
    assert [len(answers) for answers in seen.values()] == [30, 30]
    assert all(Counter(answers) == dict.fromkeys("abc", 10) for answers in seen.values())


@pytest.mark.parametrize("order", ["in proportion", "by image", "by length"])
def test_the_order_follows_from_seed_and_epoch(order: str) -> None:
    def drawn(seed: int, epoch: int) -> list[int]:
        visits = visits_to(SIZES, WEIGHTS, seed)
        visits.set_epoch(epoch)
        return list(order_of(visits, order))

    assert drawn(0, 1) == drawn(0, 1)
    assert drawn(0, 1) != drawn(0, 0)
    assert drawn(0, 1) != drawn(1, 1)
    assert len(drawn(0, 1)) == len(order_of(visits_to(SIZES, WEIGHTS), order)) == sum(SIZES)


def test_weighted_prompts_of_one_image_stand_side_by_side() -> None:
    visits = visits_to([300, 300], [1.0, 1.0])
    drawn = [visits[index].example for index in GroupByImageSampler(visits, 2)]
    assert [e.images for e in drawn[::2]] == [e.images for e in drawn[1::2]]
    assert {e.component for e in drawn[:2]} == {"0", "1"}
