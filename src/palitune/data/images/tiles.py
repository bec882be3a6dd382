"""Tiles: overlapping windows of a large image, in which small objects are large enough to be seen.

The windows of an image have one size and are spread evenly, so that the first and the last touch
its edges and every pixel lies in at least one. An image that is not larger than a tile stays whole.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar

from annotated_types import Ge, Gt, Le, Lt

from palitune.data.images.transforms import crop_instances
from palitune.errors import DataError, check_ranges
from palitune.records import Box, Row, Size, Tile

MAX_TILES = 10_000
"""Largest number of tiles of one image: more are a mistake in the settings."""


@dataclass(kw_only=True)
class Tiles:
    """Size and overlap of tiles."""

    place: ClassVar[str] = "tiles"
    """Name of the setting in error messages."""

    size: Annotated[int, Ge(1)] = 448
    """Side of a tile in pixels of the image."""
    overlap: Annotated[float, Ge(0), Lt(1)] = 0.2
    """Least overlap of neighboring tiles, as a fraction of their side. An object up to this size is
    whole in at least one tile."""

    def __post_init__(self) -> None:
        check_ranges(self, self.place)
        if self._stride() < 1:
            raise ValueError(
                f"{self.place}.overlap must leave at least one pixel of the tile's {self.size}, "
                f"got {self.overlap:g}. Set {self.place}.overlap lower."
            )

    def _stride(self) -> int:
        """Return the largest distance of neighboring tiles in pixels."""
        return self.size - math.ceil(self.size * self.overlap)

    def grid(self, size: Size) -> list[Tile]:
        """Return the tiles of an image, row by row.

        Args:
            size: (width, height) of the image in pixels.

        Raises:
            ValueError: There would be more than `MAX_TILES`.
        """
        width, height = size
        columns, rows = self._starts(width), self._starts(height)
        if len(columns) * len(rows) > MAX_TILES:
            raise ValueError(
                f"{self.place}.size={self.size} cuts an image of {width} x {height} px into "
                f"{len(columns) * len(rows)} tiles, more than {MAX_TILES}. Set it higher, or "
                f"{self.place}.overlap lower."
            )
        right, bottom = min(self.size, width), min(self.size, height)
        return [(x, y, x + right, y + bottom) for y in rows for x in columns]

    def _starts(self, length: int) -> range | list[int]:
        """Return the first pixel of each tile along one side of an image."""
        if length <= self.size:
            return [0]
        gaps = math.ceil((length - self.size) / self._stride())
        if gaps > MAX_TILES:
            return range(gaps + 1)  # only counted
        return [number * (length - self.size) // gaps for number in range(gaps + 1)]

    def describe(self) -> str:
        """Return size and overlap in words."""
        return f"{self.size} px with an overlap of {self.overlap:g}"


@dataclass(kw_only=True)
class TrainingTiles(Tiles):
    """Tiles that the images of a training are cut into."""

    place: ClassVar[str] = "data.tiles"

    min_visible: Annotated[float, Gt(0), Le(1)] = 0.5
    """Fraction of an object's mask (without a mask: of its box) that must be inside a tile; the
    target of the tile leaves other objects out."""


@dataclass
class TileCounts:
    """Counts over the images that were cut, for the sentences of `inspect` and `check`."""

    tiles: TrainingTiles
    images: int = 0
    cut_images: int = 0
    num_tiles: int = 0
    empty_tiles: int = 0
    objects: int = 0
    never_whole: int = 0
    """Objects that no tile shows whole."""
    larger: int = 0
    """Those of them that are larger than a tile."""
    longest_side: float = 0.0
    """Longest side of an object in pixels."""
    longest_at: str = ""
    """Location of its row."""
    partial: int = 0
    """Parts of objects at the edge of a tile that are too small for its target."""
    lost: int = 0
    """Objects in the target of no tile."""
    lost_at: list[str] = field(default_factory=list)

    def summary(self) -> dict[str, int]:
        """Return the counts as JSON."""
        counts: dict[str, int] = {
            "images": self.images,
            "cut_images": self.cut_images,
            "tiles": self.num_tiles,
            "empty_tiles": self.empty_tiles,
            "objects": self.objects,
            "whole_in_no_tile": self.never_whole,
            "larger_than_a_tile": self.larger,
            "dropped_parts": self.partial,
            "in_no_target": self.lost,
        }
        return counts

    def messages(self) -> list[str]:
        """Return a sentence per kind of count that is not zero."""
        if not self.images:
            return []
        tiles = self.tiles
        messages = [
            f"tiles: {self.images} images become {self.num_tiles} tiles of {tiles.describe()} "
            f"({self.images - self.cut_images} images are not larger than a tile); "
            f"{self.empty_tiles} tiles are without objects (task.negative_ratio is the share that "
            "training keeps)"
        ]
        if self.partial:
            messages.append(
                f"tiles: {self.partial} parts of objects are less than {tiles.min_visible:g} "
                "visible in a tile and not in its target (data.tiles.min_visible)"
            )
        if self.never_whole:
            messages.append(
                f"tiles: {self.never_whole} of {self.objects} objects are whole in no tile, "
                f"{self.larger} of them larger than a tile; the longest side of an object is "
                f"{self.longest_side:.0f} px ({self.longest_at}). Set data.tiles.size or "
                "data.tiles.overlap higher"
            )
        if self.lost:
            messages.append(
                f"tiles: {self.lost} of {self.objects} objects are in the target of no tile: "
                f"{'; '.join(self.lost_at)}{'; ...' if self.lost > len(self.lost_at) else ''}"
            )
        return messages


def cut_row(row: Row, tiles: TrainingTiles, counts: TileCounts) -> Iterator[Row]:
    """Yield a row for each tile of an image, with the objects inside; update the counts.

    A row of several images, or of one that is not larger than a tile, is yielded unchanged.

    Raises DataError if the row has a text of its own instead of objects, or too many tiles.
    """
    if len(row.images) != 1:
        yield row
        return
    if row.suffix is not None or row.instances is None:
        column = "instances" if row.suffix is None else "suffix"
        problem = "is missing" if row.suffix is None else "is a text"
        raise DataError(
            f"{row.location}: column {column!r} {problem}, but data.tiles needs objects with boxes "
            "to cut. Use a format with boxes, or set data.tiles=null."
        )
    try:
        grid = tiles.grid(row.size)
    except ValueError as error:
        raise DataError(f"{row.location}: {error}") from error
    counts.images += 1
    counts.cut_images += len(grid) > 1
    rows = [row] if len(grid) == 1 else [_row_of_tile(row, box, tiles) for box in grid]
    counts.num_tiles += len(rows)
    counts.empty_tiles += sum(not any(not i.crowd for i in each.instances or ()) for each in rows)
    _count_objects(row, grid, tiles, counts)
    yield from rows


def _row_of_tile(row: Row, box: Tile, tiles: TrainingTiles) -> Row:
    kept = crop_instances(row.instances or (), box, tiles.min_visible)
    return replace(
        row,
        id=f"{row.id}#{box[0]},{box[1]}",
        size=(box[2] - box[0], box[3] - box[1]),
        location=f"{row.location}, tile at {box[0]},{box[1]}",
        instances=tuple(instance for instance in kept if instance is not None),
        tile=box,
    )


def _count_objects(row: Row, grid: list[Tile], tiles: TrainingTiles, counts: TileCounts) -> None:
    """Count the objects of a row by how its tiles show them."""
    for instance in row.instances or ():
        if instance.crowd:
            continue
        box = instance.box
        touching = [tile for tile in grid if _overlap(box, tile)]
        whole = any(_contains(tile, box) for tile in touching)
        sides = box[2] - box[0], box[3] - box[1]
        counts.objects += 1
        if max(sides) > counts.longest_side:
            counts.longest_side, counts.longest_at = max(sides), row.location
        if len(grid) == 1:
            continue
        cut = [tile for tile in touching if not _contains(tile, box)]
        dropped = sum(crop_instances([instance], t, tiles.min_visible) == [None] for t in cut)
        counts.partial += dropped
        counts.never_whole += not whole
        counts.larger += not whole and max(sides) > tiles.size
        if not whole and dropped == len(cut):
            counts.lost += 1
            if len(counts.lost_at) < 10:
                counts.lost_at.append(row.location)


def _overlap(box: Box, tile: Tile) -> bool:
    return box[0] < tile[2] and tile[0] < box[2] and box[1] < tile[3] and tile[1] < box[3]


def _contains(tile: Tile, box: Box) -> bool:
    return tile[0] <= box[0] and tile[1] <= box[1] and box[2] <= tile[2] and box[3] <= tile[3]
