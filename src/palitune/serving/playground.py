"""Sample images of the playground: embedded pages."""

import base64
from functools import cache

from palitune.data.sources.embedded import Handwriting

_PAGES = (1, 2, 3)


@cache
def sample_images() -> list[str]:
    """Return images as data URIs."""
    folder = Handwriting().resolved_path() / "images"
    files = [folder / f"test-{number:04d}.png" for number in _PAGES]
    return [
        "data:image/png;base64," + base64.b64encode(file.read_bytes()).decode() for file in files
    ]
