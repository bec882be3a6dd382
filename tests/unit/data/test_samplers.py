"""Samplers visit every example, in an order that depends on seed and epoch alone."""

import random
from collections import Counter
from collections.abc import Sequence
from itertools import chain, islice

import pytest
from accelerate.data_loader import BatchSamplerShard
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import BatchSampler, Sampler

from palitune.data.mixture_schedule import MixtureSchedule
from palitune.data.samplers import (
    GroupByImageSampler,
    LengthGroupedSampler,
    WeightedMixtureSampler,
    interleave_evenly,
)
from palitune.data.training_set import TargetSampling, TrainingSet
from palitune.records import Example

IMAGES_AND_PROMPTS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), max_size=40)
SIZES, WEIGHTS = [900, 40, 3000], [5.0, 2.0, 1.0]
NUM_SAMPLES = 10_000


def make_example(image: int, prompt: int, id_: str, component: str = "") -> Example:
    return Example(
        id=id_,
        images=(f"{image}.png",),
        size=(4, 4),
        prefix=str(prompt),
        suffixes=("a", "b", "c"),
        reference=("a", "b", "c"),
        location="here",
        component=component,
    )


def training_set_of(pairs: Sequence[tuple[int, int]], seed: int = 0) -> TrainingSet:
    """Examples of (image, prompt); equal pairs are copies of one example."""
    examples = [make_example(image, prompt, f"{image}-{prompt}") for image, prompt in pairs]
    return TrainingSet(examples, TargetSampling.first, seed)


def weighted_training_set(sizes: list[int], weights: list[float], seed: int = 0) -> TrainingSet:
    """Components of these sizes, which show the same images."""
    examples = [
        make_example(number, component, str(number), str(component))
        for component, size in enumerate(sizes)
        for number in range(size)
    ]
    schedule = MixtureSchedule(sizes, weights, seed)
    return TrainingSet(examples, TargetSampling.cycle, seed, None, schedule)


def make_sampler(training_set: TrainingSet, name: str) -> Sampler[int]:
    lengths = [len(e.prefix) + int(e.id) % 50 for e in training_set.examples]
    return {
        "weighted mixture": WeightedMixtureSampler(training_set),
        "group by image": GroupByImageSampler(training_set, 4),
        "group by length": LengthGroupedSampler(training_set, lengths, 16, 0),
    }[name]


ALL_SAMPLERS = ["weighted mixture", "group by image", "group by length"]


# Groups of one image


@given(pairs=IMAGES_AND_PROMPTS, prompts_per_image=st.integers(1, 5), epoch=st.integers(0, 3))
def test_grouping_by_image_visits_every_example_once_per_epoch(
    pairs: list[tuple[int, int]], prompts_per_image: int, epoch: int
) -> None:
    training_set = training_set_of(pairs)
    training_set.set_epoch(epoch)
    sampler = GroupByImageSampler(training_set, prompts_per_image)
    assert sorted(sampler) == list(range(len(pairs)))
    assert len(sampler) == len(pairs)


def test_prompts_of_an_image_are_neighbors() -> None:
    pairs = [(image, prompt) for prompt in range(4) for image in range(50)]
    training_set = training_set_of(pairs)
    order = list(GroupByImageSampler(training_set, 2))
    images = [training_set.examples[index].images for index in order]
    assert images[::2] == images[1::2]
    assert max(Counter(images[::2]).values()) == 2
    assert images[:100:2] != images[100::2], "the two groups of an image are not neighbors"


def test_copies_of_an_example_are_in_different_groups() -> None:
    pairs = [(image, prompt) for _ in range(2) for prompt in (0, 1) for image in (0, 1)]
    training_set = training_set_of(pairs)
    order = list(GroupByImageSampler(training_set, 2))
    prefixes = [training_set.examples[index].prefix for index in order]
    assert [set(prefixes[i : i + 2]) for i in range(0, 8, 2)] == [{"0", "1"}] * 4


def test_the_order_of_groups_depends_on_seed_and_epoch() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        training_set = training_set_of([(image, 0) for image in range(30)], seed)
        training_set.set_epoch(epoch)
        return list(GroupByImageSampler(training_set, 1))

    assert order(0, 0) == order(0, 0) != order(1, 0)
    assert order(0, 0) != order(0, 1)


# Batches of similar length


def order_by_length(
    lengths: list[int], batch_size: int, epoch: int = 0, seed: int = 0
) -> list[int]:
    training_set = training_set_of([(number, 0) for number in range(len(lengths))])
    training_set.set_epoch(epoch)
    return list(LengthGroupedSampler(training_set, lengths, batch_size, seed))


def num_padding_tokens(lengths: list[int]) -> int:
    batches = [lengths[start : start + 10] for start in range(0, len(lengths), 10)]
    return sum(max(batch) * len(batch) - sum(batch) for batch in batches)


@given(st.lists(st.integers(1, 99), max_size=300), st.integers(1, 9))
def test_grouping_by_length_visits_every_example_once(lengths: list[int], batch_size: int) -> None:
    assert sorted(order_by_length(lengths, batch_size)) == list(range(len(lengths)))


def test_examples_of_a_batch_have_similar_lengths_and_short_batches_do_not_come_first() -> None:
    lengths = random.Random(0).choices(range(1000), k=1000)
    ordered = [lengths[index] for index in order_by_length(lengths, 10)]
    assert num_padding_tokens(ordered) < num_padding_tokens(lengths) / 10
    batches = [ordered[start : start + 10] for start in range(0, 1000, 10)]
    assert [batch[0] for batch in batches] != sorted(batch[0] for batch in batches)


def test_an_incomplete_batch_comes_last() -> None:
    lengths = list(range(25))
    order = order_by_length(lengths, 10)
    assert max(order[:10]) - min(order[:10]) == 9
    assert max(order[10:20]) - min(order[10:20]) == 9


def test_the_order_by_length_depends_on_seed_and_epoch() -> None:
    lengths = list(range(100))
    first = order_by_length(lengths, 5)
    assert first == order_by_length(lengths, 5)
    assert first != order_by_length(lengths, 5, epoch=1)
    assert first != order_by_length(lengths, 5, seed=1)


# Weighted mixtures


@pytest.mark.parametrize(("processes", "batch"), [(1, 1), (2, 1), (2, 8)])
@pytest.mark.parametrize("name", ALL_SAMPLERS)
def test_every_process_samples_each_component_by_its_weight(
    name: str, batch: int, processes: int
) -> None:
    for rank in range(processes):
        training_set = weighted_training_set(SIZES, WEIGHTS)
        batch_sampler = BatchSampler(make_sampler(training_set, name), batch, drop_last=False)
        batches = BatchSamplerShard(batch_sampler, processes, rank)

        indices: list[int] = []
        while len(indices) < NUM_SAMPLES:
            indices += chain.from_iterable(batches)
            training_set.set_epoch(training_set.epoch + 1)
        components = [training_set[index].example.component for index in indices[:NUM_SAMPLES]]
        assert components == [str(training_set.component_index(i)) for i in indices[:NUM_SAMPLES]]
        counts = Counter(components)
        shares = [counts[str(component)] / NUM_SAMPLES for component in range(len(SIZES))]
        assert shares == pytest.approx([w / sum(WEIGHTS) for w in WEIGHTS], abs=0.01)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=4), st.floats(0, 1))
def test_a_stretch_of_interleaved_groups_contains_each_in_its_share(
    counts: list[int], offset: float
) -> None:
    groups = [[(group, number) for number in range(count)] for group, count in enumerate(counts)]
    mixed = interleave_evenly(groups, offset)
    for group, count in enumerate(counts):
        assert [item for item in mixed if item[0] == group] != [] or not count
        for end in range(len(mixed)):
            count_before = sum(item[0] == group for item in islice(mixed, end))
            assert abs(count_before - count / len(mixed) * end) < 4


def test_answers_of_an_example_alternate_within_an_epoch_and_across_epochs() -> None:
    training_set = weighted_training_set([2, 40], [20.0, 22.0])
    suffixes: dict[str, list[str]] = {}
    for epoch in range(3):
        training_set.set_epoch(epoch)
        for index in WeightedMixtureSampler(training_set):
            sample = training_set[index]
            if sample.example.component == "0":
                suffixes.setdefault(sample.example.id, []).append(sample.suffix)
    assert [len(answers) for answers in suffixes.values()] == [30, 30]
    assert all(Counter(answers) == dict.fromkeys("abc", 10) for answers in suffixes.values())


@pytest.mark.parametrize("name", ALL_SAMPLERS)
def test_the_order_of_a_mixture_depends_on_seed_and_epoch(name: str) -> None:
    def order(seed: int, epoch: int) -> list[int]:
        training_set = weighted_training_set(SIZES, WEIGHTS, seed)
        training_set.set_epoch(epoch)
        sampler = make_sampler(training_set, name)
        indices = list(sampler)
        assert len(indices) == len(sampler) == sum(SIZES)  # type: ignore[arg-type]
        return indices

    assert order(0, 1) == order(0, 1)
    assert order(0, 1) != order(0, 0)
    assert order(0, 1) != order(1, 1)


def test_weighted_prompts_of_an_image_are_neighbors() -> None:
    training_set = weighted_training_set([300, 300], [1.0, 1.0])
    examples = [training_set[index].example for index in GroupByImageSampler(training_set, 2)]
    assert [e.images for e in examples[::2]] == [e.images for e in examples[1::2]]
    assert {e.component for e in examples[:2]} == {"0", "1"}
