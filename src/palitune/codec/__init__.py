"""Text <-> geometry: boxes as `<loc>` tokens and masks as `<seg>` tokens."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from palitune.codec.boxes import decode as decode_boxes
    from palitune.codec.boxes import encode as encode_boxes
    from palitune.codec.masks import MaskCodec

# Imported when they are used: masks need torch, and records need only the run lengths.
_PLACES = {
    "decode_boxes": ("palitune.codec.boxes", "decode"),
    "encode_boxes": ("palitune.codec.boxes", "encode"),
    "MaskCodec": ("palitune.codec.masks", "MaskCodec"),
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _PLACES[name]
    return getattr(import_module(module), attribute)


__all__ = ["MaskCodec", "decode_boxes", "encode_boxes"]
