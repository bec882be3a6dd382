"""Boxes, masks and labels as SVG and HTML over a photo, of one size at any zoom of the page."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from palitune.codec.outlines import mask_outlines
from palitune.records import Box, Instance, Mask, Size
from palitune.report.images.drawing import PALETTE, color_index, label_text, place_label

if TYPE_CHECKING:
    from markupsafe import Markup

REFERENCE = "reference"
"""Layer that is drawn as dashed green lines, without labels as long as another one is visible."""
MAX_INSTANCES = 80
"""Default maximum number of drawn objects of a layer."""
_MAX_MASK_SIDE = 192
"""Longer side in pixels of the mask whose outline is drawn."""
_LABEL_HEIGHT, _LETTER_WIDTH, _LABEL_MARGIN = 18, 6.6, 8
"""Approximate size in CSS pixels of a label, for its position."""
_NOMINAL_LONG_SIDE = 380
"""Longer side in CSS pixels of a photo on a card, for the position of labels."""


@dataclass(frozen=True)
class Layer:
    """Objects that are shown and hidden together."""

    name: str
    """reference | prediction | after | before | objects | best | worst."""
    instances: Sequence[Instance]


def draw_overlay(
    size: Size, layers: Sequence[Layer], max_instances: int = MAX_INSTANCES
) -> "Markup":
    """Return the drawing over a photo; its container has the aspect ratio of the photo.

    Args:
        size: (width, height) in pixels of the photo that boxes and masks refer to.
        layers: Objects by layer, from the bottom to the top.
        max_instances: Maximum number of drawn objects of each layer; the first ones are drawn.
    """
    from markupsafe import Markup

    shapes, labels = [], []
    for layer in layers:
        drawn = layer.instances[:max_instances]
        inner = Markup("").join(_draw_shape(instance) for instance in drawn)
        shapes.append(Markup('<g class="layer {}">{}</g>').format(layer.name, inner))
        inner = Markup("").join(_draw_labels(size, drawn))
        labels.append(Markup('<div class="layer {} tags">{}</div>').format(layer.name, inner))
    return Markup(
        '<div aria-hidden="true"><svg class="overlay" viewBox="0 0 {} {}" '
        'preserveAspectRatio="none">{}</svg>{}</div>'
    ).format(*size, Markup("").join(shapes), Markup("").join(labels))


def _draw_shape(instance: Instance) -> "Markup":
    """Draw mask and box of an object; the first box is a white rim, visible on any ground."""
    from markupsafe import Markup

    x0, y0, x1, y1 = (f"{side:.1f}".removesuffix(".0") for side in instance.box)
    mask = "" if instance.mask is None else _mask_path(instance.mask)
    return Markup("<g{}>{}{}</g>").format(
        _attributes(instance, "crowd" if instance.crowd else ""),
        Markup('<path class="mask" d="{}"/>').format(mask) if mask else "",
        Markup('<path class="rim" d="{0}"/><path d="{0}"/>').format(f"M{x0} {y0}H{x1}V{y1}H{x0}z"),
    )


def _attributes(instance: Instance, classes: str) -> "Markup":
    """Return the color of an object as a class, and what the page filters by."""
    from markupsafe import Markup

    text = Markup(' class="{}" data-label="{}"').format(
        f"c{color_index(instance.label)} {classes}".strip(), instance.label
    )
    if instance.score is None:
        return text
    return text + Markup(' data-score="{}"').format(f"{instance.score:.3g}")


def _mask_path(mask: Mask) -> str:
    """Return the outlines of a mask as an SVG path in pixels of the image."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return ""
    top, left = int(rows[0]), int(columns[0])
    crop = mask[top : rows[-1] + 1, left : columns[-1] + 1]
    step = -(-max(crop.shape) // _MAX_MASK_SIDE)
    outlines = mask_outlines(crop[::step, ::step], tolerance=0.75)
    # The last row and column of a reduced mask may cover fewer pixels.
    height, width = crop.shape
    rings = [np.minimum(ring * step, (width, height)) + np.array((left, top)) for ring in outlines]
    return "".join("M" + "L".join(f"{x:g} {y:g}" for x, y in ring) + "z" for ring in rings)


def _draw_labels(size: Size, instances: Sequence[Instance]) -> "Iterator[Markup]":
    """Draw labels next to their boxes, where they overlap other labels of the layer least.

    A label stands at a distance in CSS pixels from a corner of its box, given in percent.
    """
    from markupsafe import Markup

    scale = _NOMINAL_LONG_SIDE / max(size)
    nominal = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    occupied: list[Box] = []
    for instance in instances:
        text = label_text(instance)
        if not text:
            continue
        x0, y0, x1, y1 = (side * scale for side in instance.box)
        width = min(len(text) * _LETTER_WIDTH + _LABEL_MARGIN, nominal[0])
        position = place_label((x0, y0, x1, y1), (width, _LABEL_HEIGHT), nominal, occupied)
        occupied.append(position)
        left = _css_length(x0 / nominal[0], position[0] - x0)
        top = _css_length(y0 / nominal[1], position[1] - y0)
        yield Markup('<span{} style="left:{};top:{}">{}</span>').format(
            _attributes(instance, "tag"), left, top, text
        )


def _css_length(share: float, pixels: float) -> str:
    percent = f"{100 * share:.4g}%"
    return f"calc({percent} + {pixels:.0f}px)" if round(pixels) else percent


def palette_css() -> str:
    """Return the CSS classes of the colors of labels."""
    return "".join(
        f".c{index}{{--color:#{red:02x}{green:02x}{blue:02x}}}"
        for index, (red, green, blue) in enumerate(PALETTE)
    )
