"""What the pages beside the report share: their frame, their pictures, their look."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palitune.models.adapters import Adapter
from palitune.models.checkpoints import Model
from palitune.report.templates import render

if TYPE_CHECKING:
    from PIL.Image import Image

_WEBP_QUALITY = 80


@dataclass(frozen=True)
class Thumbnail:
    """A picture inside a page."""

    source: str
    """A data URI."""
    alt: str
    width: int
    height: int


def name_of(model: Model) -> str:
    """Name a base model: its hub id, or the option and the folder."""
    source = model.source()
    return source if model.on_hub() else f"{model.name} ({Path(source).name})"


def made_by(model: Model, adapter: Adapter) -> list[tuple[str, str]]:
    """Say what answers: (name, text) of base model and adapter."""
    return [("model", name_of(model)), ("adapter", adapter.path or "none: the base model")]


def thumbnail(image: "Image", alt: str) -> Thumbnail:
    """Put an image into a page, in the size that it has."""
    encoded = io.BytesIO()
    image.save(encoded, "WEBP", quality=_WEBP_QUALITY)
    source = f"data:image/webp;base64,{base64.b64encode(encoded.getvalue()).decode('ascii')}"
    return Thumbnail(source, alt, image.width, image.height)


def write_page(file: Path, template: str, **content: Any) -> Path:
    """Write a page of its own, without network, out of a template of this folder."""
    named = content | {"folder": file.absolute().parent.name}
    page = render(template, named, ("page.css", "gallery.css"), "gallery.js")
    file.write_bytes(page.encode("utf-8", "replace"))
    return file
