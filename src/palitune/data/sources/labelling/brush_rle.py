"""Run lengths of Label Studio's brush: the bit stream of the library `rle-pack` of thi.ng/umbrella.

A header holds the number of values (32 bits), the bits of a value minus 1 (5 bits), and four sizes
of run lengths minus 1 (4 bits each). A run is a bit for "repeated", two bits for its size, its
length minus 1, and one value, or as many values as the run is long. The values are the four
channels of the image row by row; the mask is the last one, alpha.
"""

from collections.abc import Sequence

from palitune.records import Mask, Size

_CHANNELS = 4
_VALUE_BITS = 8


def decode_brush(rle: Sequence[int], size: Size) -> Mask:
    """Return the (height, width) mask of a brush stroke.

    Args:
        rle: The bytes of the bit stream.
        size: (width, height) of the image in pixels.

    Raises:
        ValueError: The stream is damaged or of an image of another size.
    """
    import numpy as np

    width, height = size
    stream = _BitStream(bytes(rle))
    total = stream.read(32)
    if total != width * height * _CHANNELS:
        raise ValueError(f"it must hold {width * height * _CHANNELS} values, got {total}")
    if (bits := stream.read(5) + 1) != _VALUE_BITS:
        raise ValueError(f"its values must have {_VALUE_BITS} bits, got {bits}")
    length_bits = [stream.read(4) + 1 for _ in range(4)]
    values = np.zeros(total, np.uint8)
    start = 0
    while start < total:
        is_repeated = stream.read(1)
        end = start + 1 + stream.read(length_bits[stream.read(2)])
        if end > total:
            raise ValueError("a run is longer than the image")
        count = 1 if is_repeated else end - start
        values[start:end] = np.frombuffer(stream.read_bytes(count), np.uint8)
        start = end
    mask: Mask = values.reshape(height, width, _CHANNELS)[:, :, -1] > 0
    return mask


class _BitStream:
    """Numbers of any number of bits, most significant bit first."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._position = 0

    def read(self, bits: int) -> int:
        """Return the next `bits` bits as a number. Raises ValueError at the end of the stream."""
        first = self._position // 8
        self._position += bits
        if self._position > 8 * len(self._content):
            raise ValueError("it ends within a run")
        last = (self._position + 7) // 8
        number = int.from_bytes(self._content[first:last], "big")
        return (number >> (8 * last - self._position)) & ((1 << bits) - 1)

    def read_bytes(self, count: int) -> bytes:
        """Return the next `count` bytes, which may start within a byte."""
        return self.read(8 * count).to_bytes(count, "big")
