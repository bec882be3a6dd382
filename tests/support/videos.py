"""Videos whose frames can be identified: each frame has a different gray level."""

from pathlib import Path

import av
import numpy as np
from PIL import Image

GRAY_STEP = 8
"""Difference of the gray levels of two frames; larger than the changes by compression."""


def write_video(file: Path, frames: int, rate: int = 10, size: tuple[int, int] = (64, 48)) -> Path:
    """Write a video whose frame n has the gray level `GRAY_STEP * n`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(file), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.gop_size = 4
        stream.bit_rate = 4_000_000
        for number in range(frames):
            gray = np.full((size[1], size[0], 3), GRAY_STEP * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(gray, format="rgb24")))
        container.mux(stream.encode())
    return file


def frame_index(image: str) -> int:
    """Return the index of the frame in an image."""
    return round(float(np.asarray(Image.open(image)).mean()) / GRAY_STEP)
