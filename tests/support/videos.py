"""Videos that tell which of their frames one sees: each frame has a grey of its own."""

from pathlib import Path

import av
import numpy as np
from PIL import Image

GRAY_STEP = 8
"""Between the greys of two frames: more than compression changes."""


def write_video(file: Path, frames: int, rate: int = 10, size: tuple[int, int] = (64, 48)) -> Path:
    """Write a video whose frame n is grey, as bright as `STEP * n`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(file), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.gop_size = 4
        stream.bit_rate = 4_000_000
        for number in range(frames):
            grey = np.full((size[1], size[0], 3), GRAY_STEP * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(stream.encode())
    return file


def frame_index(image: str) -> int:
    """Tell which frame of such a video an image is."""
    return round(float(np.asarray(Image.open(image)).mean()) / GRAY_STEP)
