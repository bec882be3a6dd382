"""Frames are those that are asked for, whatever the video is."""

import sys
from pathlib import Path

import pytest
from PIL import Image

from palitune.data.images.video import VideoSampling
from palitune.errors import DataError

from support.videos import frame_index, write_video


def numbers(images: tuple[str, ...]) -> list[int]:
    return [frame_index(image) for image in images]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Three seconds of ten frames each."""
    return str(write_video(tmp_path_factory.mktemp("videos") / "clip.mp4", 30))


def test_frames_are_the_first_and_then_every_one_after_a_stride(video: str) -> None:
    assert numbers(VideoSampling(count=4, stride=7).extract(video)) == [0, 7, 14, 21]


def test_a_short_video_gives_its_frames_again_from_the_first_on(video: str) -> None:
    assert numbers(VideoSampling(count=7, stride=10).extract(video)) == [0, 10, 20, 0, 10, 20, 0]


def test_a_part_of_a_video_begins_and_ends_where_it_is_said(video: str) -> None:
    frames = VideoSampling(count=3, stride=2)
    assert numbers(frames.extract(video, start=1.1)) == [11, 13, 15]
    assert numbers(frames.extract(video, start=1.1, end=1.35)) == [11, 13, 11]


def test_frames_are_decoded_once(video: str) -> None:
    frames = VideoSampling(count=2, stride=3)
    [first, *_] = frames.extract(video)
    Image.new("RGB", (64, 48), "white").save(first)
    assert numbers(frames.extract(video))[0] == 32
    assert numbers(VideoSampling(count=2, stride=4).extract(video)) == [0, 4]


def test_a_frame_is_no_larger_than_any_model_sees_it(tmp_path: Path) -> None:
    large = write_video(tmp_path / "large.mp4", 1, size=(1800, 1000))
    [frame] = VideoSampling(count=1).extract(str(large))
    assert Image.open(frame).size == (1613, 896)


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("gone.mp4", None, "gone.mp4 does not exist"),
        ("text.mp4", b"no video", "text.mp4 cannot be read"),
    ],
)
def test_what_is_no_video_is_said_in_a_sentence(
    name: str, content: bytes | None, fault: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=fault):
        VideoSampling().extract(str(tmp_path / name))


def test_a_part_behind_the_end_of_a_video_has_no_frames(video: str) -> None:
    with pytest.raises(DataError, match="no frame in the part"):
        VideoSampling().extract(video, start=9)


def test_without_pyav_the_sentence_says_how_to_get_it(
    video: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(DataError, match=r"palitune\[video\]"):
        VideoSampling(count=3, stride=9).extract(video)


@pytest.mark.parametrize("setting", ["count", "stride"])
def test_counts_are_at_least_one(setting: str) -> None:
    with pytest.raises(ValueError, match=f"frames.{setting} must be at least 1"):
        VideoSampling(**{setting: 0})
