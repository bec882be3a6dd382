"""Settings of tiles in evaluation and prediction."""

from dataclasses import dataclass
from enum import Enum
from typing import Annotated, ClassVar

from annotated_types import Gt, Le

from palitune.data.images.tiles import Tiles


class OverlapMeasure(Enum):
    """Measure by which two boxes are the same object."""

    ios = "ios"
    """Intersection over the smaller box: a part of an object matches the whole one."""
    iou = "iou"
    """Intersection over union: objects of one class may lie inside each other."""


class MergedBox(Enum):
    """Box of an object that several tiles show."""

    union = "union"
    """Smallest box around all of them; it completes an object that no tile shows whole."""
    best = "best"
    """The box with the highest score."""


@dataclass(kw_only=True)
class InferenceTiles(Tiles):
    """Tiles that the model is asked about one by one; their objects are merged."""

    place: ClassVar[str] = "evaluation.tiles"

    match: OverlapMeasure = OverlapMeasure.ios
    """Overlap by which two objects of one class are the same: ios (intersection over the smaller
    box) | iou (intersection over union)."""
    min_overlap: Annotated[float, Gt(0), Le(1)] = 0.5
    """Least overlap of two objects that are merged."""
    box: MergedBox = MergedBox.union
    """Box of merged objects: union | best."""
