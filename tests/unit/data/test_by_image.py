"""The order in which an epoch visits its examples."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from palitune.data.by_image import GroupByImageSampler
from palitune.data.training_set import TargetSampling, TrainingSet
from palitune.records import Example

IMAGES_AND_PROMPTS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), max_size=40)


def visits_of(pairs: list[tuple[int, int]], seed: int = 0) -> TrainingSet:
    """Examples of (image, prompt); equal pairs are copies of one example."""
    examples = [
        Example(
            id=f"{image}-{prompt}",
            images=(f"{image}.png",),
            size=(4, 4),
            prefix=str(prompt),
            suffixes=("x",),
            reference=("x",),
            location="here",
        )
        for image, prompt in pairs
    ]
    return TrainingSet(examples, TargetSampling.first, seed)


@given(pairs=IMAGES_AND_PROMPTS, side_by_side=st.integers(1, 5), epoch=st.integers(0, 3))
def test_every_example_is_visited_once_an_epoch(
    pairs: list[tuple[int, int]], side_by_side: int, epoch: int
) -> None:
    visits = visits_of(pairs)
    visits.set_epoch(epoch)
    order = GroupByImageSampler(visits, side_by_side)
    assert sorted(order) == list(range(len(pairs)))
    assert len(order) == len(pairs)


def test_rows_of_an_image_stand_side_by_side() -> None:
    visits = visits_of([(image, prompt) for prompt in range(4) for image in range(50)])
    order = list(GroupByImageSampler(visits, 2))
    images = [visits.examples[index].images for index in order]
    assert images[::2] == images[1::2]
    assert max(Counter(images[::2]).values()) == 2
    assert images[:100:2] != images[100::2], "the two groups of an image stand apart"


def test_copies_of_an_example_do_not_stand_side_by_side() -> None:
    visits = visits_of([(image, prompt) for _ in range(2) for prompt in (0, 1) for image in (0, 1)])
    order = list(GroupByImageSampler(visits, 2))
    pairs = [{visits.examples[index].prefix for index in order[i : i + 2]} for i in range(0, 8, 2)]
    assert pairs == [{"0", "1"}] * 4


def test_the_order_follows_from_seed_and_epoch() -> None:
    pairs = [(image, 0) for image in range(30)]
    first, again, other = (visits_of(pairs, seed) for seed in (0, 0, 1))
    assert (
        list(GroupByImageSampler(first, 1))
        == list(GroupByImageSampler(again, 1))
        != list(GroupByImageSampler(other, 1))
    )
    again.set_epoch(1)
    assert list(GroupByImageSampler(first, 1)) != list(GroupByImageSampler(again, 1))
