"""Images inside an HTML page: WebP data URIs with their captions."""

import base64
import io
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from palitune.records import Instance

if TYPE_CHECKING:
    from PIL.Image import Image

_WEBP_QUALITY = 80
_BROWSER_TYPES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".avif")
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
    overlay: str = ""
    """Drawing over the image, as markup."""
    photo: str = ""
    """Address of the original file relative to the page, which the enlarged image shows; empty if
    a browser cannot show it."""


def encode_image(
    image: "Image",
    alt: str,
    *,
    caption: str = "",
    note: str = "",
    max_bytes: int | None = None,
    overlay: str = "",
    photo: str = "",
) -> InlineImage:
    """Encode an image for a page.

    Args:
        image: Image at its display size.
        alt: Alternative text.
        caption: Text above the image.
        note: Text after the caption.
        max_bytes: Maximum bytes of the encoded image, which is reduced until it fits; None: any.
        overlay: Drawing over the image, as markup.
        photo: Address of the original file; see `photo_address`.
    """
    encoded = _encode_webp(image)
    while max_bytes and len(encoded) > max_bytes and max(image.size) > _MIN_LONG_SIDE:
        factor = min(0.8, 0.95 * (max_bytes / len(encoded)) ** 0.5)
        width, height = (max(1, round(side * factor)) for side in image.size)
        image = image.resize((width, height))
        encoded = _encode_webp(image)
    source = f"data:image/webp;base64,{base64.b64encode(encoded).decode('ascii')}"
    return InlineImage(source, alt, image.width, image.height, caption, note, overlay, photo)


def photo_address(path: str, folder: Path) -> str:
    """Return the address of an image file relative to a page in `folder`.

    It is empty if the file is missing or of a type that browsers do not show.
    """
    file = Path(path).absolute()
    if file.suffix.lower() not in _BROWSER_TYPES or not file.is_file():
        return ""
    try:
        return quote(os.path.relpath(file, folder.absolute()).replace(os.sep, "/"))
    except ValueError:  # another drive
        return file.as_uri()


def join_labels(instances: Iterable[Instance]) -> str:
    """Return the labels for an alternative text."""
    return ", ".join(instance.label for instance in instances) or "no objects"


def _encode_webp(image: "Image") -> bytes:
    file = io.BytesIO()
    image.save(file, "WEBP", quality=_WEBP_QUALITY, method=2)
    return file.getvalue()
