"""Frames of a video as the images of a row: decoded once, kept as JPEG files in the cache.

PyAV is imported where a video is opened.
"""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palitune.errors import DataError
from palitune.paths import cache_root

if TYPE_CHECKING:
    from PIL.Image import Image

VIDEO_EXTENSIONS = (".mp4", ".webm", ".mkv", ".avi", ".mov", ".m4v", ".mpg", ".mpeg")
_MAX_SHORT_SIDE = 896
"""Most pixels of the shorter side of a kept frame: the highest resolution of PaliGemma."""
_JPEG_QUALITY = 95


@dataclass(kw_only=True)
class VideoSampling:
    """Which frames of a video a prompt is about: the first, and then every `stride`-th.

    A video with fewer of them gives what it has again from the first on, as in the transfers that
    PaliGemma's report tells of; where training there begins anywhere, it begins at the first here.
    """

    count: int = 16
    """Frames of each video; each takes as many tokens as an image."""
    stride: int = 30
    """Frames of the video from one that is taken to the next."""

    def __post_init__(self) -> None:
        for name in ("count", "stride"):
            if getattr(self, name) < 1:
                raise ValueError(f"frames.{name} must be at least 1, not {getattr(self, name)}")

    def extract(self, video: str, start: float = 0.0, end: float | None = None) -> tuple[str, ...]:
        """Return the image files of a video's frames between two times, in seconds.

        Raises DataError where the video cannot be read or has no frame in between.
        """
        folder = cache_root() / "frames" / self._cache_key(video, start, end)
        if not folder.exists():
            _save_frames(self._decode_frames(video, start, end), folder, video)
        kept = sorted(str(file) for file in folder.iterdir())
        return tuple(islice(cycle(kept), self.count))

    def _cache_key(self, video: str, start: float, end: float | None) -> str:
        """Name everything that the frames depend on."""
        try:
            stat = os.stat(video)
        except OSError:
            raise DataError(f"video {video} does not exist") from None
        what = (os.path.abspath(video), stat.st_size, stat.st_mtime_ns, start, end)
        told = f"{what} {self.count} {self.stride} {_MAX_SHORT_SIDE} {_JPEG_QUALITY}"
        return blake2b(told.encode(errors="replace"), digest_size=16).hexdigest()

    def _decode_frames(self, video: str, start: float, end: float | None) -> Iterator["Image"]:
        between = (frame for frame in _iterate_frames(video, start) if start <= (frame.time or 0.0))
        for number, frame in enumerate(between):
            if number == self.count * self.stride or (end is not None and frame.time > end):
                return
            if number % self.stride == 0:
                yield _to_upright_image(frame)


def _iterate_frames(video: str, start: float) -> Iterator[Any]:
    """Decode a video from the last key frame before a time on."""
    try:
        import av
    except ImportError:
        raise DataError(
            f"video {video}: PyAV is not there to read it; install it with pip install "
            "'palitune[video]'"
        ) from None

    with _video_errors(video), av.open(video) as container:
        if not container.streams.video:
            raise DataError(f"video {video} holds no pictures")
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
    except av.FFmpegError as mistake:
        raise DataError(
            f"video {video} cannot be read ({mistake.strerror}); download or save it anew"
        ) from mistake


def _to_upright_image(frame: Any) -> "Image":
    """Return a frame as it is meant to be seen, no larger than any model sees it."""
    image: Image = frame.to_image()
    if frame.rotation:
        image = image.rotate(frame.rotation, expand=True)
    if (factor := _MAX_SHORT_SIDE / min(image.size)) < 1:
        image = image.resize((round(image.width * factor), round(image.height * factor)))
    return image


def _save_frames(images: Iterator["Image"], folder: Path, video: str) -> None:
    """Write frames aside, then rename: other processes see all of them or none."""
    aside = folder.parent / f".{folder.name}-{uuid.uuid4().hex}"
    aside.mkdir(parents=True)
    try:
        for number, image in enumerate(images):
            image.save(aside / f"{number:04d}.jpg", quality=_JPEG_QUALITY)
        if not any(aside.iterdir()):
            raise DataError(f"video {video} has no frame in the part that is asked for")
        try:
            aside.rename(folder)
        except OSError:
            if not folder.exists():  # else another process was first, with the same frames
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
