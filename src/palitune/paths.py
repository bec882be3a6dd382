"""Where Palitune keeps what it has made and can make again."""

import os
from pathlib import Path


def cache_root() -> Path:
    """Return `$PALITUNE_CACHE`, else `~/.cache/palitune`."""
    chosen = os.environ.get("PALITUNE_CACHE")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "palitune"
