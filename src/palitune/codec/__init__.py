"""Text <-> geometry: boxes as `<loc>` tokens and masks as `<seg>` tokens."""

from typing import TYPE_CHECKING, Any

from palitune.codec.boxes import decode as decode_boxes
from palitune.codec.boxes import encode as encode_boxes

if TYPE_CHECKING:
    from palitune.codec.masks import MaskCodec


def __getattr__(name: str) -> Any:
    if name != "MaskCodec":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from palitune.codec.masks import MaskCodec  # imports torch

    return MaskCodec


__all__ = ["MaskCodec", "decode_boxes", "encode_boxes"]
