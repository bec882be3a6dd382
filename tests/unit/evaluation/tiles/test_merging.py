"""Merged objects: independent of the order, stable, and those of the image."""

from random import Random

import hypothesis
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palitune.data.images.tiles import TileCounts, TrainingTiles, cut_row
from palitune.evaluation.tiles.config import InferenceTiles, MergedBox, OverlapMeasure
from palitune.evaluation.tiles.merging import merge_objects, place_in_image
from palitune.records import Box, Instance, Row

settings = st.builds(
    InferenceTiles,
    match=st.sampled_from(OverlapMeasure),
    min_overlap=st.floats(0.05, 1),
    box=st.sampled_from(MergedBox),
)


@st.composite
def objects(draw: st.DrawFn) -> Instance:
    x, y, width, height = (draw(st.integers(0, 30)) for _ in range(4))
    score = draw(st.sampled_from([None, 0.1, 0.5, 0.5001, 0.9]))
    return Instance(draw(st.sampled_from("ab")), (x, y, x + width, y + height), score=score)


@hypothesis.settings(max_examples=40)
@given(st.lists(objects(), max_size=12), settings, st.randoms())
def test_the_order_of_the_tiles_does_not_matter(
    instances: list[Instance], tiles: InferenceTiles, rng: Random
) -> None:
    shuffled = rng.sample(instances, len(instances))
    assert merge_objects(shuffled, tiles) == merge_objects(instances, tiles)


@hypothesis.settings(max_examples=40)
@given(st.lists(objects(), max_size=12), settings)
def test_merging_again_changes_nothing(instances: list[Instance], tiles: InferenceTiles) -> None:
    once = merge_objects(instances, tiles)
    assert merge_objects(once, tiles) == once
    assert {i.label for i in once} == {i.label for i in instances}
    scores = [1.0 if i.score is None else i.score for i in instances]
    assert max((1.0 if i.score is None else i.score for i in once), default=0) == max(
        scores, default=0
    )


@hypothesis.settings(max_examples=40)
@given(st.lists(objects(), max_size=12), settings)
def test_classes_do_not_influence_each_other(
    instances: list[Instance], tiles: InferenceTiles
) -> None:
    apart = [merge_objects([i for i in instances if i.label == name], tiles) for name in "ab"]
    merged = merge_objects(instances, tiles)
    assert [[i for i in merged if i.label == name] for name in "ab"] == list(map(list, apart))


def boat(box: Box, score: float | None = None) -> Instance:
    return Instance("boat", box, score=score)


def test_two_parts_of_an_object_become_one_box_with_the_higher_score() -> None:
    left, right = boat((0, 0, 10, 4), 0.6), boat((4, 0, 14, 4), 0.8)
    assert merge_objects([left, right], InferenceTiles()) == (boat((0, 0, 14, 4), 0.8),)
    assert merge_objects([left, right], InferenceTiles(box=MergedBox.best)) == (right,)
    by_iou = InferenceTiles(match=OverlapMeasure.iou)  # 24 / 56
    assert merge_objects([left, right], by_iou) == (left, right)


def test_an_object_inside_another_is_a_part_by_ios_and_an_object_by_iou() -> None:
    outer, inner = boat((0, 0, 20, 20)), boat((2, 2, 6, 6))
    assert merge_objects([outer, inner], InferenceTiles()) == (outer,)
    assert merge_objects([outer, inner], InferenceTiles(match=OverlapMeasure.iou)) == (outer, inner)


def test_masks_are_placed_in_the_image_and_joined() -> None:
    mask = np.ones((2, 3), bool)
    part = Instance("boat", (0, 0, 3, 2), mask)
    first = place_in_image(part, (1, 1, 4, 3), (8, 6))
    second = place_in_image(part, (2, 1, 5, 3), (8, 6))
    [merged] = merge_objects([first, second], InferenceTiles())
    expected = np.zeros((6, 8), bool)
    expected[1:3, 1:5] = True
    assert merged.box == (1, 1, 5, 3)
    assert merged.mask is not None
    assert (merged.mask == expected).all()


@pytest.mark.parametrize("seed", range(20))
def test_objects_up_to_the_overlap_are_found_again(seed: int) -> None:
    """Cutting a row and merging its tiles returns all objects, if each is whole in a tile."""
    rng = Random(seed)
    tiles = TrainingTiles(size=40, overlap=0.5)
    boxes = []
    for x in range(0, 160, 22):
        for y in range(0, 90, 22):
            boxes.append((x, y, x + rng.randint(1, 20), y + rng.randint(1, 20)))
    instances = tuple(Instance(rng.choice("ab"), box) for box in boxes if rng.random() < 0.7)
    row = Row(id="r", images=("r.png",), size=(180, 110), location="r", instances=instances)
    placed = [
        place_in_image(instance, part.tile or (0, 0, 0, 0), row.size)
        for part in cut_row(row, tiles, TileCounts(tiles))
        for instance in part.instances or ()
    ]
    merged = merge_objects(placed, InferenceTiles(size=40, overlap=0.5))
    assert {(i.label, i.box) for i in merged} == {(i.label, i.box) for i in instances}
