"""The official files of benchmarks about videos; see `layout` for what an entry means.

Videos are what users download themselves, mostly from YouTube, where some of them are gone;
`data.max_bad_rows` lets their rows be skipped.
"""

from collections.abc import Iterator
from pathlib import Path

from palitune.data.sources import official_readers as read
from palitune.data.sources.layout import File, Join, Layout, Record, by_split

_ENDINGS = ("mp4", "webm", "mkv", "avi")
_ACTIVITYNET = "activity-net.org/download.html (videos)"
_MSRVTT = "the MSR-VTT videos (TrainValVideo, TestVideo)"
_QA = "github.com/xudejing/video-question-answering"


def _named(name: str, *folders: str) -> list[str]:
    return [f"{folder}/{name}.{ending}" for ending in _ENDINGS for folder in folders]


def _whole(_: Record) -> tuple[float, float | None]:
    return 0.0, None


def _segments(file: Path) -> Iterator[Record]:
    """Read the parts of ActivityNet's videos, a record with its sentence for each."""
    for video in read.keyed(file):
        parts = zip(video["timestamps"], video["sentences"], strict=True)
        for number, ((start, end), sentence) in enumerate(parts):
            yield {
                "key": video["key"],
                "number": number,
                "start": min(start, end),
                "end": max(start, end),
                "sentence": sentence.strip(),
            }


def _numbered_videos(file: Path) -> Iterator[Record]:
    """Read MSVD-QA's questions; YouTube's names of its numbered videos lie in a file beside."""
    written = read.beside(file, "youtube_mapping.txt").read_text(encoding="utf-8")
    names = {number: name for name, number in map(str.split, written.splitlines())}
    for record in read.listed()(file):
        yield record | {"youtube": names[f"vid{record['video_id']}"]}


_VIDEO_QA = Layout(
    home=f"{_QA}; {_MSRVTT}",
    splits=by_split("{}_qa.json"),
    read=read.listed(),
    images=_named("video{video_id}", "TrainValVideo", "TestVideo", "videos"),
    video=_whole,
    id="{id}",
    question="question",
    answers="answer",
)

ABOUT_VIDEOS: dict[str, Layout] = {
    "activitynet_captions": Layout(
        home=f"cs.stanford.edu/people/ranjaykrishna/densevid (captions.zip); {_ACTIVITYNET}",
        splits={
            split: (File(name=f"{there}.json"),)
            for split, there in {"train": "train", "validation": "val_1", "test": "val_2"}.items()
        },
        read=_segments,
        images=_named("{key}", "videos"),
        video=lambda record: (record["start"], record["end"]),
        id="{key}-{number}",
        captions="sentence",
    ),
    "activitynet_qa": Layout(
        home=f"github.com/MILVLG/activitynet-qa, dataset; {_ACTIVITYNET}",
        splits={
            split: (File(name=f"{there}_q.json", join=f"{there}_a.json"),)
            for split, there in {"train": "train", "validation": "val", "test": "test"}.items()
        },
        read=read.listed(),
        join=Join(read=read.listed(), ours="question_id", theirs="question_id"),
        images=_named("v_{video_name}", "videos"),
        video=_whole,
        id="{question_id}",
        question="question",
        answers="joined.0.answer",
        attributes={"question_type": "joined.0.type"},
    ),
    "msrvtt_captions": Layout(
        home=f"ms-multimedia-challenge.com/2016 (videodatainfo); {_MSRVTT}",
        splits={
            split: (File(name=name, join=name, where=("split", there)),)
            for split, there, name in (
                ("train", "train", "train_val_videodatainfo.json"),
                ("validation", "validate", "train_val_videodatainfo.json"),
                ("test", "test", "test_videodatainfo.json"),
            )
        },
        read=read.listed("videos"),
        join=Join(read=read.listed("sentences"), ours="video_id", theirs="video_id"),
        images=_named("{video_id}", "TrainValVideo", "TestVideo", "videos"),
        video=_whole,
        id="{video_id}",
        captions="joined.*.caption",
    ),
    "msrvtt_qa": _VIDEO_QA,
    "msvd_qa": Layout(
        home=f"{_QA}; cs.utexas.edu/users/ml/clamp/videoDescription (YouTubeClips)",
        splits=by_split("{}_qa.json"),
        read=_numbered_videos,
        images=_named("{youtube}", "YouTubeClips", "videos"),
        video=_whole,
        id="{id}",
        question="question",
        answers="answer",
    ),
    "vatex": Layout(
        home="eric-xw.github.io/vatex-website; videos: YouTube, ten seconds of each",
        splits=by_split(
            "vatex_{}.json",
            train="training_v1.0",
            validation="validation_v1.0",
            test="public_test_english_v1.1",
        ),
        read=read.listed(),
        images=_named("{videoID}", "videos"),
        video=_whole,
        id="{videoID}",
        captions="enCap",
    ),
}
