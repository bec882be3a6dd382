"""Boxes as `<loc>` text: `<locY0><locX0><locY1><locX1> label ; ...`, and back.

Follows big_vision's `pp/proj/paligemma/segmentation.py`: y before x, a coordinate is
`round(c / side * 1023)` (half to even) and is read back as `token / 1023 * side`. The public demo
divides by 1024 instead, which moves a box by up to 0.1 % of the side; 1023 keeps the round trip.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from palitune.records import Box, Instance, Size

NUM_LOC_BINS = 1024
OBJECT_SEPARATOR = " ; "
UNIT_SIZE = (1, 1)
"""The size to give where only the form of a text matters."""

_LOC_TOKEN = re.compile(r"<loc([0-9]{4})>")
_SEG_TOKEN = re.compile(r"<seg([0-9]{3})>")
# A run of <loc> tokens, perhaps <seg> tokens, and the label up to the next object or separator.
_OBJECT_PATTERN = re.compile(
    r"(?P<locs>(?:<loc[0-9]{4}>\s*)+)(?P<segs>(?:<seg[0-9]{3}>\s*)*)"
    r"(?P<label>(?:(?!<loc[0-9]{4}>|<seg[0-9]{3}>|;).)*)",
    re.DOTALL,
)
_RESERVED_TEXT = re.compile(r";|<loc[0-9]{4}>|<seg[0-9]{3}>")

ConfidenceFn = Callable[[int, int], float]
"""Gives the model's confidence in the characters [start, end) of its own text."""


@dataclass(frozen=True)
class Decoded:
    """What a text held: the objects that could be read, and how many fragments could not."""

    instances: tuple[Instance, ...]
    malformed: int


def encode_box(box: Box, size: Size) -> str:
    """Write one box in pixels as four `<loc>` tokens; sides outside the image are clipped.

    A side that rounds to nothing is widened by one bin: a box of zero area cannot be read back.
    Raises ValueError where the corners are swapped or not a number.
    """
    width, height = size
    x0, y0, x1, y1 = box
    if not (x0 <= x1 and y0 <= y1):
        raise ValueError(f"box {box} is inverted; boxes are x0,y0,x1,y1 in pixels, x0 left of x1")
    top, bottom = _to_bins(y0 / height, y1 / height)
    left, right = _to_bins(x0 / width, x1 / width)
    return "".join(f"<loc{value:04d}>" for value in (top, left, bottom, right))


def encode(
    instances: Sequence[Instance],
    size: Size,
    *,
    labelled: bool = True,
    shapes: Sequence[str] | None = None,
) -> str:
    """Write instances in the given order.

    `size` is (width, height) in pixels, `shapes` what follows each box: its `<seg>` tokens. Raises
    ValueError where an instance cannot be read back: an inverted box, a label with tokens or `;`
    in it, and (where `labelled`) an empty label.
    """
    return OBJECT_SEPARATOR.join(
        f"{encode_box(instance.box, size)}{shape} {_validate_label(instance.label, labelled)}".rstrip()
        for instance, shape in zip(instances, shapes or [""] * len(instances), strict=True)
    )


def decode(
    text: str,
    size: Size,
    *,
    labelled: bool = True,
    confidence: ConfidenceFn | None = None,
    score_of_label: bool = False,
) -> Decoded:
    """Read every well-formed object out of a model's text, in order; never raises.

    Garbage between objects, a truncated tail, coordinates above 1023, a run of other than four
    `<loc>`, an inverted or empty box, and (where `labelled`) a missing label each count as one
    malformed fragment. `confidence` fills `Instance.score` from the span of the object's own text,
    or of its label alone.
    """
    found, malformed = parse_objects(
        text, size, labelled=labelled, confidence=confidence, score_of_label=score_of_label
    )
    return Decoded(tuple(instance for instance, _ in found), malformed)


def parse_objects(
    text: str,
    size: Size,
    *,
    labelled: bool = True,
    confidence: ConfidenceFn | None = None,
    score_of_label: bool = False,
) -> tuple[list[tuple[Instance, tuple[int, ...]]], int]:
    """Do what `decode` does, and return each object with the numbers of its `<seg>` tokens."""
    found: list[tuple[Instance, tuple[int, ...]]] = []
    malformed = 0
    end = 0
    for match in _OBJECT_PATTERN.finditer(text):
        malformed += _is_garbage(text[end : match.start()])
        end = match.end()
        label = match["label"].strip()
        box = _parse_box([int(value) for value in _LOC_TOKEN.findall(match["locs"])], size)
        if box is None or (labelled and not label):
            malformed += 1
            continue
        score = None
        if confidence is not None:
            start = match.start("label" if score_of_label else 0)
            score = confidence(start, match.start() + len(match[0].rstrip()))
        segs = tuple(int(value) for value in _SEG_TOKEN.findall(match["segs"]))
        found.append((Instance(label=label, box=box, score=score), segs))
    return found, malformed + _is_garbage(text[end:])


def is_valid_label(label: str) -> bool:
    """Tell whether a label can be read back where a box precedes it."""
    return not _RESERVED_TEXT.search(label) and label == label.strip()


def _to_bins(low: float, high: float) -> tuple[int, int]:
    first, last = (
        min(max(round(side * (NUM_LOC_BINS - 1)), 0), NUM_LOC_BINS - 1) for side in (low, high)
    )
    if last > first:
        return first, last
    return (first, first + 1) if first < NUM_LOC_BINS - 1 else (first - 1, first)


def _validate_label(label: str, labelled: bool) -> str:
    if labelled and not label:
        raise ValueError("an object has an empty label and could not be read back; name its class")
    if not is_valid_label(label):
        raise ValueError(
            f"label {label!r} holds ';', a <loc>/<seg> token or outer spaces and could not be read "
            "back; rename the class"
        )
    return label


def _parse_box(locs: list[int], size: Size) -> Box | None:
    if len(locs) != 4 or max(locs) >= NUM_LOC_BINS:
        return None
    y0, x0, y1, x1 = (value / (NUM_LOC_BINS - 1) for value in locs)
    if y1 <= y0 or x1 <= x0:
        return None
    width, height = size
    return (x0 * width, y0 * height, x1 * width, y1 * height)


def _is_garbage(fragment: str) -> bool:
    return bool(fragment.replace(";", "").strip())
