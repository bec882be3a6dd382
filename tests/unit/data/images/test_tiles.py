"""Tiles cover the image, and their objects are those of the image."""

import re
from collections import Counter
from itertools import pairwise

import hypothesis
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palitune.data.images.tiles import TileCounts, Tiles, TrainingTiles, cut_row
from palitune.errors import DataError
from palitune.records import Box, Instance, Row, Size

sides = st.integers(1, 90)
settings = st.builds(
    TrainingTiles,
    size=st.integers(4, 40),
    overlap=st.floats(0, 0.75),
    min_visible=st.sampled_from([0.1, 0.5, 1.0]),
)


def row_of(size: Size, *instances: Instance) -> Row:
    return Row(id="a", images=("a.png",), size=size, location="a.json", instances=instances)


def cut(row: Row, tiles: TrainingTiles) -> tuple[list[Row], TileCounts]:
    counts = TileCounts(tiles)
    return list(cut_row(row, tiles, counts)), counts


def shifted(box: Box, tile: tuple[int, int, int, int] | None) -> Box:
    x, y = tile[:2] if tile else (0, 0)
    return box[0] + x, box[1] + y, box[2] + x, box[3] + y


@st.composite
def rows(draw: st.DrawFn) -> Row:
    width, height = draw(sides), draw(sides)
    instances = []
    for number in range(draw(st.integers(0, 5))):
        x0, y0 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
        x1, y1 = draw(st.integers(x0 + 1, width)), draw(st.integers(y0 + 1, height))
        mask = None
        if draw(st.booleans()):
            mask = np.zeros((height, width), bool)
            mask[y0:y1, x0:x1] = True
        instances.append(Instance(str(number), (x0, y0, x1, y1), mask))
    return row_of((width, height), *instances)


@given(settings, sides, sides)
def test_every_pixel_lies_in_a_tile_and_every_tile_in_the_image(
    tiles: TrainingTiles, width: int, height: int
) -> None:
    covered = np.zeros((height, width), int)
    grid = tiles.grid((width, height))
    for x0, y0, x1, y1 in grid:
        assert 0 <= x0 < x1 <= width
        assert 0 <= y0 < y1 <= height
        assert (x1 - x0, y1 - y0) == (min(tiles.size, width), min(tiles.size, height))
        covered[y0:y1, x0:x1] += 1
    assert covered.min() >= 1
    assert len(set(grid)) == len(grid)
    assert grid == tiles.grid((width, height))


@given(settings, st.integers(1, 200))
def test_neighbors_overlap_by_at_least_the_fraction(tiles: TrainingTiles, width: int) -> None:
    starts = [box[0] for box in tiles.grid((width, 1))]
    overlap = tiles.size * tiles.overlap
    assert all(b - a <= tiles.size - overlap + 1e-6 for a, b in pairwise(starts))


def test_the_grid_of_a_known_image() -> None:
    tiles = Tiles(size=448, overlap=0.25)
    assert tiles.grid((1000, 448)) == [(0, 0, 448, 448), (276, 0, 724, 448), (552, 0, 1000, 448)]
    assert len(tiles.grid((448, 449))) == 2


@hypothesis.settings(max_examples=50)
@given(rows(), settings)
def test_objects_seen_whole_map_back_to_the_originals(row: Row, tiles: TrainingTiles) -> None:
    cut_rows, _ = cut(row, tiles)
    originals = {instance.label: instance for instance in row.instances or ()}
    for part in cut_rows:
        x0, y0, x1, y1 = part.tile or (0, 0, *row.size)
        seen = {instance.label: instance for instance in part.instances or ()}
        for label, original in originals.items():
            box = original.box
            if x0 <= box[0] and y0 <= box[1] and box[2] <= x1 and box[3] <= y1:
                found = seen[label]
                assert shifted(found.box, part.tile) == box
                if original.mask is not None and found.mask is not None:
                    assert found.mask.sum() == original.mask.sum()
                    assert (found.mask == original.mask[y0:y1, x0:x1]).all()


@given(rows(), settings)
def test_objects_stay_inside_their_tile_and_show_the_least_fraction(
    row: Row, tiles: TrainingTiles
) -> None:
    areas = {i.label: (i.box[2] - i.box[0]) * (i.box[3] - i.box[1]) for i in row.instances or ()}
    for part in cut(row, tiles)[0]:
        for instance in part.instances or ():
            x0, y0, x1, y1 = instance.box
            assert 0 <= x0 < x1 <= part.size[0]
            assert 0 <= y0 < y1 <= part.size[1]
            visible = (x1 - x0) * (y1 - y0) / areas[instance.label]
            assert visible >= tiles.min_visible - 1e-9


@hypothesis.settings(max_examples=40)
@given(rows(), settings)
def test_counts_are_those_of_the_tiles(row: Row, tiles: TrainingTiles) -> None:
    cut_rows, counts = cut(row, tiles)
    seen = Counter(i.label for part in cut_rows for i in part.instances or ())
    assert counts.num_tiles == len(cut_rows) == len(tiles.grid(row.size))
    assert counts.empty_tiles == sum(not part.instances for part in cut_rows)
    assert counts.lost == sum(not seen[i.label] for i in row.instances or ())
    touched = 0
    everything = TrainingTiles(size=tiles.size, overlap=tiles.overlap, min_visible=1e-9)
    for instance in row.instances or ():
        parts, shown = cut(row_of(row.size, instance), everything)
        touched += len(parts) - shown.empty_tiles
    assert counts.partial == touched - seen.total()


def test_an_image_that_is_not_larger_than_a_tile_stays_as_it_is() -> None:
    row = row_of((60, 40), Instance("boat", (1, 2, 3, 4)))
    assert cut(row, TrainingTiles(size=60))[0] == [row]


def test_tiles_that_are_too_small_for_the_objects_are_reported() -> None:
    row = row_of((100, 100), Instance("boat", (10, 10, 70, 50)), Instance("buoy", (1, 1, 3, 3)))
    _, counts = cut(row, TrainingTiles(size=40, min_visible=1.0))
    assert counts.messages()[2:] == [
        "tiles: 1 of 2 objects are whole in no tile, 1 of them larger than a tile; the longest "
        "side of an object is 60 px (a.json). Set data.tiles.size or data.tiles.overlap higher",
        "tiles: 1 of 2 objects are in the target of no tile: a.json",
    ]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size": 0}, "data.tiles.size must be at least 1, got 0."),
        ({"overlap": 1.0}, "data.tiles.overlap must be at least 0 and below 1, got 1.0."),
        ({"min_visible": 0.0}, "data.tiles.min_visible must be above 0 and at most 1, got 0.0."),
    ],
)
def test_settings_out_of_range_are_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        TrainingTiles(**values)  # type: ignore[arg-type]


def test_a_huge_number_of_tiles_is_refused_at_the_row() -> None:
    row = row_of((50_000, 50_000))
    with pytest.raises(DataError, match=r"^a\.json: data\.tiles\.size=2 cuts an image of 50000"):
        cut(row, TrainingTiles(size=2))


def test_a_row_without_boxes_is_refused() -> None:
    row = Row(id="a", images=("a.png",), size=(9, 9), location="a.json:3", suffix="<loc0000>")
    with pytest.raises(DataError, match=r"^a\.json:3: column 'suffix' is a text, but data\.tiles"):
        cut(row, TrainingTiles(size=4))
