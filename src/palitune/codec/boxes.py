"""Boxes as `<loc>` text: `<locY0><locX0><locY1><locX1> label ; ...`, and back.

Follows big_vision's `pp/proj/paligemma/segmentation.py`: y before x; a coordinate is written as
`round(c / side * 1023)` (half to even) and read as `token / 1023 * side`. The public demo divides
by 1024 instead, which moves a box by up to 0.1 % of the side; 1023 keeps the round trip.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from palitune.codec.tokens import LOC_TOKENS, NUM_LOC_BINS
from palitune.records import Box, Instance, Size

OBJECT_SEPARATOR = " ; "
UNIT_SIZE = (1, 1)
"""Image size for callers that need only the syntax of a text."""

_LOC_TOKEN = re.compile(r"<loc([0-9]{4})>")
_SEG_TOKEN = re.compile(r"<seg([0-9]{3})>")
# A run of <loc> tokens, optional <seg> tokens, and the label up to the next object or separator.
_OBJECT_PATTERN = re.compile(
    r"(?P<locs>(?:<loc[0-9]{4}>\s*)+)(?P<segs>(?:<seg[0-9]{3}>\s*)*)"
    r"(?P<label>(?:(?!<loc[0-9]{4}>|<seg[0-9]{3}>|;).)*)",
    re.DOTALL,
)
_RESERVED_TEXT = re.compile(r";|<loc[0-9]{4}>|<seg[0-9]{3}>")

ConfidenceFn = Callable[[int, int], float]
"""Returns the model's confidence in the characters [start, end) of its own text."""


@dataclass(frozen=True)
class Decoded:
    """Objects parsed from a text, and the number of malformed fragments."""

    instances: tuple[Instance, ...]
    malformed: int


def encode_box(box: Box, size: Size) -> str:
    """Write one box in pixels as four `<loc>` tokens; coordinates outside the image are clipped.

    A side that rounds to zero is widened by one bin, because a box without area cannot be parsed.
    Raises ValueError if the corners are swapped or not a number.
    """
    width, height = size
    x0, y0, x1, y1 = box
    if not (x0 <= x1 and y0 <= y1):
        raise ValueError(f"box {box} is inverted; boxes are x0,y0,x1,y1 in pixels, x0 left of x1")
    top, bottom = _to_bins(y0 / height, y1 / height)
    left, right = _to_bins(x0 / width, x1 / width)
    return LOC_TOKENS[top] + LOC_TOKENS[left] + LOC_TOKENS[bottom] + LOC_TOKENS[right]


def encode(
    instances: Sequence[Instance],
    size: Size,
    *,
    labelled: bool = True,
    shapes: Sequence[str] | None = None,
) -> str:
    """Write instances in order.

    Args:
        instances: Objects with boxes in pixels.
        size: (width, height) of the image in pixels.
        labelled: Whether every object must have a label.
        shapes: `<seg>` tokens of each object.

    Raises:
        ValueError: An instance could not be parsed back: its box is inverted, its label contains
            tokens or `;`, or its label is missing.
    """
    return OBJECT_SEPARATOR.join(
        f"{encode_box(item.box, size)}{shape} {_validate_label(item.label, labelled)}".rstrip()
        for item, shape in zip(instances, shapes or [""] * len(instances), strict=True)
    )


def decode(
    text: str,
    size: Size,
    *,
    labelled: bool = True,
    confidence: ConfidenceFn | None = None,
    score_of_label: bool = False,
) -> Decoded:
    """Parse all well-formed objects of a generated text, in order; never raises.

    Malformed fragments are: text between objects, a truncated end, a coordinate above 1023, a run
    of other than four `<loc>`, an inverted or empty box, and a missing label.

    Args:
        text: Generated text.
        size: (width, height) of the image in pixels.
        labelled: Whether every object must have a label.
        confidence: Sets `Instance.score` from the characters of the object.
        score_of_label: Compute the score from the characters of the label only.
    """
    objects, malformed = parse_objects(
        text, size, labelled=labelled, confidence=confidence, score_of_label=score_of_label
    )
    return Decoded(tuple(instance for instance, _ in objects), malformed)


def parse_objects(
    text: str,
    size: Size,
    *,
    labelled: bool = True,
    confidence: ConfidenceFn | None = None,
    score_of_label: bool = False,
) -> tuple[list[tuple[Instance, tuple[int, ...]]], int]:
    """Parse objects as `decode` does; return each with its `<seg>` codes, and the malformed count.

    The arguments are those of `decode`.
    """
    objects: list[tuple[Instance, tuple[int, ...]]] = []
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
        codes = tuple(int(value) for value in _SEG_TOKEN.findall(match["segs"]))
        objects.append((Instance(label=label, box=box, score=score), codes))
    return objects, malformed + _is_garbage(text[end:])


def is_valid_label(label: str) -> bool:
    """Return whether a label after a box can be parsed back."""
    return not _RESERVED_TEXT.search(label) and label == label.strip()


def _to_bins(low: float, high: float) -> tuple[int, int]:
    last_bin = NUM_LOC_BINS - 1
    first = min(max(round(low * last_bin), 0), last_bin)
    last = min(max(round(high * last_bin), 0), last_bin)
    if last > first:
        return first, last
    return (first, first + 1) if first < last_bin else (first - 1, first)


def _validate_label(label: str, labelled: bool) -> str:
    if labelled and not label:
        raise ValueError(
            "an object has an empty label and could not be parsed back; name its class"
        )
    if not is_valid_label(label):
        raise ValueError(
            f"label {label!r} contains ';', a <loc>/<seg> token or outer spaces and could not be "
            "parsed back; rename the class"
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
