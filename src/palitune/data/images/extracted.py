"""Images without a file: written to the cache folder once, named by the digest of their bytes."""

from hashlib import blake2b

from palitune.paths import cache_root, write_atomically


def extract_to_cache(content: bytes) -> str:
    """Write the bytes of an image file to the cache and return the path."""
    digest = blake2b(content, digest_size=16).hexdigest()
    file = cache_root() / "images" / digest[:2] / digest
    if not file.exists():
        with write_atomically(file) as temporary:
            temporary.write_bytes(content)
    return str(file)
