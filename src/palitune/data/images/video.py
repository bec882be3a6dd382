"""Frames of a video as the images of a row: decoded once, stored as JPEG files in the cache folder.

PyAV is imported when a video is opened.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge

from palitune.errors import DataError, check_ranges
from palitune.paths import cache_root, write_atomically

if TYPE_CHECKING:
    from PIL.Image import Image

VIDEO_EXTENSIONS = (".mp4", ".webm", ".mkv", ".avi", ".mov", ".m4v", ".mpg", ".mpeg")
_MAX_SHORT_SIDE = 896
"""Maximum of a stored frame's shorter side in pixels: PaliGemma's highest resolution."""
_JPEG_QUALITY = 95


@dataclass(kw_only=True)
class VideoSampling:
    """The frames of a video that a prompt contains: the first, and then every `stride`-th.

    If a video has fewer, its frames are repeated from the first, as in the transfers of PaliGemma's
    report. Those start at a random frame in training; here the first frame is always the first.
    """

    count: Annotated[int, Ge(1)] = 16
    """Frames per video; each takes as many tokens as an image."""
    stride: Annotated[int, Ge(1)] = 30
    """Distance between two sampled frames, in frames of the video."""

    def __post_init__(self) -> None:
        check_ranges(self, "frames")

    def extract(self, video: str, start: float = 0.0, end: float | None = None) -> tuple[str, ...]:
        """Return the image files of the frames between two times in seconds.

        Raises DataError if the video cannot be read or has no frame in this interval.
        """
        folder = cache_root() / "frames" / self._cache_key(video, start, end)
        if not folder.exists():
            _save_frames(self._decode_frames(video, start, end), folder, video)
        files = sorted(str(file) for file in folder.iterdir())
        return tuple(islice(cycle(files), self.count))

    def _cache_key(self, video: str, start: float, end: float | None) -> str:
        """Return a digest of everything that the frames depend on."""
        try:
            stat = os.stat(video)
        except OSError:
            raise DataError(f"video {video} does not exist") from None
        file = (os.path.abspath(video), stat.st_size, stat.st_mtime_ns, start, end)
        key = f"{file} {self.count} {self.stride} {_MAX_SHORT_SIDE} {_JPEG_QUALITY}"
        return blake2b(key.encode(errors="replace"), digest_size=16).hexdigest()

    def _decode_frames(self, video: str, start: float, end: float | None) -> Iterator["Image"]:
        frames = (frame for frame in _iterate_frames(video, start) if start <= (frame.time or 0.0))
        for number, frame in enumerate(frames):
            if number == self.count * self.stride or (end is not None and frame.time > end):
                return
            if number % self.stride == 0:
                yield _to_upright_image(frame)


def _iterate_frames(video: str, start: float) -> Iterator[Any]:
    """Decode a video from the last key frame before a time."""
    try:
        import av
    except ImportError:
        raise DataError(
            f"video {video}: reading videos requires PyAV; pip install 'palitune[video]'"
        ) from None

    with _video_errors(video), av.open(video) as container:
        if not container.streams.video:
            raise DataError(f"video {video} has no video stream")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        if start:
            container.seek(int(start * av.time_base))
        yield from container.decode(stream)


@contextmanager
def _video_errors(video: str) -> Iterator[None]:
    import av

    try:
        yield
    except av.FFmpegError as error:
        raise DataError(
            f"video {video} cannot be read ({error.strerror}); download or save it again"
        ) from error


def _to_upright_image(frame: Any) -> "Image":
    """Return an upright frame, no larger than the highest resolution of the model."""
    image: Image = frame.to_image()
    if frame.rotation:
        image = image.rotate(frame.rotation, expand=True)
    if (factor := _MAX_SHORT_SIDE / min(image.size)) < 1:
        image = image.resize((round(image.width * factor), round(image.height * factor)))
    return image


def _save_frames(images: Iterator["Image"], folder: Path, video: str) -> None:
    with write_atomically(folder) as temporary:
        temporary.mkdir()
        for number, image in enumerate(images):
            image.save(temporary / f"{number:04d}.jpg", quality=_JPEG_QUALITY)
        if not any(temporary.iterdir()):
            raise DataError(f"video {video} has no frame in the requested interval")
