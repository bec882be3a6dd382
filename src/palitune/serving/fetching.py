"""Images by URL, from hosts that the settings name.

Any other host is refused, and so are redirects: otherwise a client could make the server read
addresses that only the server reaches.
"""

import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from palitune.errors import DataError
from palitune.serving.config import ServerConfig

TIMEOUT_SECONDS = 10


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def fetch_image(url: str, settings: ServerConfig) -> bytes:
    """Fetch an image. Raises DataError if its host is not allowed, or it is too large."""
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError:  # brackets that hold no IPv6 address
        raise DataError("the image URL is malformed. Send a data URI.") from None
    if parts.scheme != "https" or parts.hostname not in settings.image_hosts or parts.username:
        allowed = ", ".join(settings.image_hosts) or "none"
        raise DataError(
            f"image URLs must be https and of an allowed host (allowed: {allowed}). Send a data "
            "URI."
        )
    opener = urllib.request.build_opener(_NoRedirects, urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=TIMEOUT_SECONDS) as response:
            data: bytes = response.read(settings.max_image_bytes + 1)
    except (OSError, ValueError):
        raise DataError("the image URL cannot be fetched. Send a data URI.") from None
    return data
