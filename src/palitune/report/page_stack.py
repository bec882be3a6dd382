"""What the pages beside the report share: their frame, their pictures, their look."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palitune.models.adapters.config import AdapterConfig
from palitune.models.config import ModelConfig
from palitune.report.templates import render_template

if TYPE_CHECKING:
    from PIL.Image import Image

_WEBP_QUALITY = 80


@dataclass(frozen=True)
class Thumbnail:
    """A picture inside a page."""

    data_uri: str
    """A data URI."""
    alt: str
    width: int
    height: int


def model_display_name(model: ModelConfig) -> str:
    """Name a base model: its hub id, or the option and the folder."""
    source = model.name_or_path()
    return source if model.on_hub() else f"{model.name} ({Path(source).name})"


def model_facts(model: ModelConfig, adapter: AdapterConfig) -> list[tuple[str, str]]:
    """Say what answers: (name, text) of base model and adapter."""
    return [
        ("model", model_display_name(model)),
        ("adapter", adapter.path or "none: the base model"),
    ]


def make_thumbnail(image: "Image", alt: str) -> Thumbnail:
    """Put an image into a page, in the size that it has."""
    encoded = io.BytesIO()
    image.save(encoded, "WEBP", quality=_WEBP_QUALITY)
    source = f"data:image/webp;base64,{base64.b64encode(encoded.getvalue()).decode('ascii')}"
    return Thumbnail(source, alt, image.width, image.height)


def write_page(file: Path, template: str, **context: Any) -> Path:
    """Write a page of its own, without network, out of a template of this folder."""
    named = context | {"folder": file.absolute().parent.name}
    page = render_template(template, named, ("page.css", "gallery.css"), "gallery.js")
    file.write_bytes(page.encode("utf-8", "replace"))
    return file
