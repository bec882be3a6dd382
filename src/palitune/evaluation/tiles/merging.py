"""Merging of the objects of several tiles: greedy matching by overlap, per class.

Objects are visited from the highest score to the lowest. An object joins the visited object of its
class that it overlaps most, if that is enough, else it is an object of its own; the joined objects
become one. This is repeated until no two objects of a class overlap enough, so the result does not
change if it is merged again. It does not depend on the order of the objects.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import reduce

import numpy as np

from palitune.evaluation.tiles.config import InferenceTiles, MergedBox, OverlapMeasure
from palitune.metrics.base import FloatArray
from palitune.records import Box, Instance, Mask, Size, Tile


def place_in_image(instance: Instance, tile: Tile, size: Size) -> Instance:
    """Return an object of a tile in the coordinates of the image.

    Args:
        instance: The object.
        tile: x0, y0, x1, y1 of the tile.
        size: (width, height) of the image.
    """
    left, top, right, bottom = tile
    x0, y0, x1, y1 = instance.box
    mask = None
    if instance.mask is not None:
        mask = np.zeros((size[1], size[0]), bool)
        mask[top:bottom, left:right] = instance.mask
    return replace(instance, box=(x0 + left, y0 + top, x1 + left, y1 + top), mask=mask)


def merge_objects(instances: Iterable[Instance], settings: InferenceTiles) -> tuple[Instance, ...]:
    """Merge the objects of one class that overlap enough; the result is in reading order.

    A merged object has the highest score and all masks; a missing score counts as 1.
    """
    objects = sorted(instances, key=_priority)
    while True:
        groups = _match(objects, settings)
        merged = sorted((_combine(group, settings.box) for group in groups), key=_priority)
        if len(merged) == len(objects):
            return tuple(sorted(merged, key=lambda i: (i.box[1], i.box[0], _priority(i))))
        objects = merged


def _priority(instance: Instance) -> tuple[float, str, Box]:
    """Return the sort key: the highest score first, equal scores by label and box."""
    return -(1.0 if instance.score is None else instance.score), instance.label, instance.box


def _match(objects: Sequence[Instance], settings: InferenceTiles) -> list[list[Instance]]:
    """Return groups of objects that are one; the first of a group has the highest score."""
    groups: dict[str, list[list[Instance]]] = {}
    boxes: dict[str, FloatArray] = {}
    for instance in objects:
        of_class = groups.setdefault(instance.label, [])
        seeds = boxes.setdefault(instance.label, np.empty((len(objects), 4)))
        box = np.array(instance.box, float)
        overlaps = _overlaps(box, seeds[: len(of_class)], settings.match)
        if len(overlaps) and overlaps.max() >= settings.min_overlap:
            of_class[int(overlaps.argmax())].append(instance)
        else:
            seeds[len(of_class)] = box
            of_class.append([instance])
    return [group for of_class in groups.values() for group in of_class]


def _overlaps(box: FloatArray, others: FloatArray, measure: OverlapMeasure) -> FloatArray:
    """Return the overlap of a box with each of (boxes, 4) others; that of an empty box is 0."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = sides.clip(min=0).prod(axis=1)
    area, areas = (box[2:] - box[:2]).prod(), (others[:, 2:] - others[:, :2]).prod(axis=1)
    whole = np.minimum(area, areas) if measure is OverlapMeasure.ios else area + areas - shared
    overlaps: FloatArray = np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)
    return overlaps


def _combine(group: Sequence[Instance], box: MergedBox) -> Instance:
    first = group[0]
    if len(group) == 1:
        return first
    masks = [instance.mask for instance in group if instance.mask is not None]
    if box is MergedBox.best:
        return first
    lows, highs = zip(*((i.box[:2], i.box[2:]) for i in group), strict=True)
    x0, y0 = map(min, zip(*lows, strict=True))
    x1, y1 = map(max, zip(*highs, strict=True))
    mask: Mask | None = reduce(np.logical_or, masks) if masks else None
    return replace(first, box=(x0, y0, x1, y1), mask=mask)
