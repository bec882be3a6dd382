"""Noise boxes that pad a suffix to a fixed number of objects.

From pix2seq (arXiv 2109.10852, section 2.4) and the detection transfers of PaliGemma 2: a model
that ends its answer early misses objects. A model trained to label noise boxes can generate a fixed
number of objects, and the probability of a class is the confidence of an object.
"""

import re
from collections.abc import Sequence
from random import Random

from palitune.codec.boxes import OBJECT_SEPARATOR
from palitune.codec.tokens import NUM_LOC_BINS
from palitune.records import Box, Instance, Size


def add_noise_boxes(
    objects: Sequence[Instance], count: int, label: str, size: Size, rng: Random
) -> list[Instance]:
    """Return the objects, followed by noise boxes up to a total of `count`.

    Args:
        objects: Objects of one image.
        count: Number of objects and noise boxes.
        label: Label of the noise boxes.
        size: (width, height) of the image in pixels.
        rng: Source of the noise boxes.
    """
    num_noise = max(0, count - len(objects))
    return [*objects, *(Instance(label, _random_box(size, rng)) for _ in range(num_noise))]


def noise_token_spans(suffix: str, label: str) -> tuple[tuple[int, int], ...]:
    """Return the character spans of the `<loc>` tokens of noise boxes, which are unpredictable."""
    box = rf"((?:<loc[0-9]{{4}}>){{4}}) {re.escape(label)}(?={OBJECT_SEPARATOR}|$)"
    return tuple(match.span(1) for match in re.finditer(box, suffix))


def _random_box(size: Size, rng: Random) -> Box:
    """Return a box from a uniform distribution over all boxes that can be encoded."""
    (x0, x1), (y0, y1) = (sorted(rng.sample(range(NUM_LOC_BINS), 2)) for _ in range(2))
    width, height = (side / (NUM_LOC_BINS - 1) for side in size)
    return x0 * width, y0 * height, x1 * width, y1 * height
