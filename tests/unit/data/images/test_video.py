"""Frames are sampled by count, stride and interval, and decoded once."""

import sys
from pathlib import Path

import pytest
from PIL import Image

from palitune.data.images.video import VideoSampling
from palitune.errors import DataError

from support.videos import frame_index, write_video


def frame_indices(images: tuple[str, ...]) -> list[int]:
    return [frame_index(image) for image in images]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Three seconds of ten frames each."""
    return str(write_video(tmp_path_factory.mktemp("videos") / "clip.mp4", 30))


def test_frames_are_the_first_and_then_every_stride_th(video: str) -> None:
    assert frame_indices(VideoSampling(count=4, stride=7).extract(video)) == [0, 7, 14, 21]


def test_frames_of_a_short_video_are_repeated_from_the_first(video: str) -> None:
    assert frame_indices(VideoSampling(count=7, stride=10).extract(video)) == [
        0,
        10,
        20,
        0,
        10,
        20,
        0,
    ]


def test_an_interval_limits_the_frames(video: str) -> None:
    frames = VideoSampling(count=3, stride=2)
    assert frame_indices(frames.extract(video, start=1.1)) == [11, 13, 15]
    assert frame_indices(frames.extract(video, start=1.1, end=1.35)) == [11, 13, 11]


def test_frames_are_decoded_once(video: str) -> None:
    frames = VideoSampling(count=2, stride=3)
    [first, *_] = frames.extract(video)
    Image.new("RGB", (64, 48), "white").save(first)
    assert frame_indices(frames.extract(video))[0] == 32
    assert frame_indices(VideoSampling(count=2, stride=4).extract(video)) == [0, 4]


def test_a_frame_is_no_larger_than_the_highest_resolution(tmp_path: Path) -> None:
    large = write_video(tmp_path / "large.mp4", 1, size=(1800, 1000))
    [frame] = VideoSampling(count=1).extract(str(large))
    assert Image.open(frame).size == (1613, 896)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.mp4", None, "gone.mp4 does not exist"),
        ("text.mp4", b"no video", "text.mp4 cannot be read"),
    ],
)
def test_a_file_that_is_no_video_raises_one_sentence(
    name: str, content: bytes | None, message: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        VideoSampling().extract(str(tmp_path / name))


def test_an_interval_after_the_end_of_a_video_has_no_frames(video: str) -> None:
    with pytest.raises(DataError, match="no frame in the requested interval"):
        VideoSampling().extract(video, start=9)


def test_the_error_without_pyav_names_the_extra_to_install(
    video: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(DataError, match=r"palitune\[video\]"):
        VideoSampling(count=3, stride=9).extract(video)


@pytest.mark.parametrize("setting", ["count", "stride"])
def test_counts_are_at_least_one(setting: str) -> None:
    with pytest.raises(ValueError, match=f"^frames.{setting} must be at least 1, got 0"):
        VideoSampling(**{setting: 0})
