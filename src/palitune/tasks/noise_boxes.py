"""Boxes of noise that fill a suffix up, so that a model writes as many objects as it is asked.

pix2seq (arXiv 2109.10852, section 2.4) and the detection transfers of PaliGemma 2: a model that has
to end its answer misses objects; one that learns to tell noise from objects can be made to go on,
and says by the probability of a class how sure it is.
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
    """Return the objects, and behind them boxes of noise, `count` in all where there are fewer."""
    missing = max(0, count - len(objects))
    return [*objects, *(Instance(label, _random_box(size, rng)) for _ in range(missing))]


def noise_token_spans(suffix: str, label: str) -> tuple[tuple[int, int], ...]:
    """Return where the `<loc>` tokens of noise stand: nobody could foresee them."""
    box = rf"((?:<loc[0-9]{{4}}>){{4}}) {re.escape(label)}(?={OBJECT_SEPARATOR}|$)"
    return tuple(match.span(1) for match in re.finditer(box, suffix))


def _random_box(size: Size, rng: Random) -> Box:
    """Draw two corners; every box that can be written is as likely as any other."""
    (x0, x1), (y0, y1) = (sorted(rng.sample(range(NUM_LOC_BINS), 2)) for _ in range(2))
    width, height = (side / (NUM_LOC_BINS - 1) for side in size)
    return x0 * width, y0 * height, x1 * width, y1 * height
