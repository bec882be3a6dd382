"""Images inside an HTML page: WebP data URIs with their captions."""

import base64
import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from palitune.records import Instance

if TYPE_CHECKING:
    from PIL.Image import Image

_WEBP_QUALITY = 82
_MIN_LONG_SIDE = 48
"""Longer side in pixels below which an image is not reduced further to save bytes."""


@dataclass(frozen=True)
class InlineImage:
    data_uri: str
    alt: str
    width: int
    height: int
    caption: str = ""
    """`reference`, `after`, ...; empty if the image stands alone."""
    note: str = ""
    """Number of objects drawn; empty if nothing can be drawn."""


def encode_image(
    image: "Image", alt: str, *, caption: str = "", note: str = "", max_bytes: int | None = None
) -> InlineImage:
    """Encode an image for a page.

    Args:
        image: Image at its display size.
        alt: Alternative text.
        caption: Text above the image.
        note: Text after the caption.
        max_bytes: Maximum bytes of the encoded image, which is reduced until it fits; None: any.
    """
    encoded = _encode_webp(image)
    while max_bytes and len(encoded) > max_bytes and max(image.size) > _MIN_LONG_SIDE:
        factor = min(0.8, 0.95 * (max_bytes / len(encoded)) ** 0.5)
        width, height = (max(1, round(side * factor)) for side in image.size)
        image = image.resize((width, height))
        encoded = _encode_webp(image)
    source = f"data:image/webp;base64,{base64.b64encode(encoded).decode('ascii')}"
    return InlineImage(source, alt, image.width, image.height, caption, note)


def join_labels(instances: Iterable[Instance]) -> str:
    """Return the labels for an alternative text."""
    return ", ".join(instance.label for instance in instances) or "no objects"


def _encode_webp(image: "Image") -> bytes:
    file = io.BytesIO()
    image.save(file, "WEBP", quality=_WEBP_QUALITY, method=2)
    return file.getvalue()
