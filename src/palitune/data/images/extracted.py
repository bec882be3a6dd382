"""Images without a file of their own: written to the cache once, named by their digest."""

import os
from hashlib import blake2b

from palitune.paths import cache_root


def extract_to_cache(content: bytes) -> str:
    """Write an image file to the cache under the digest of its bytes; return its path."""
    digest = blake2b(content, digest_size=16).hexdigest()
    file = cache_root() / "images" / digest[:2] / digest
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        aside = file.with_name(f".{digest}-{os.getpid()}")
        aside.write_bytes(content)
        aside.replace(file)
    return str(file)
