"""Video benchmarks: descriptions of their official files.

Users download the videos themselves, mostly from YouTube, where some no longer exist;
`data.max_bad_rows` allows skipping their rows.
"""

from collections.abc import Iterator
from pathlib import Path

from palitune.data.benchmarks import readers as read
from palitune.data.benchmarks.layout import (
    BenchmarkSpec,
    Record,
    RecordJoin,
    SplitFile,
    by_split,
)

_EXTENSIONS = ("mp4", "webm", "mkv", "avi")
_ACTIVITYNET = "activity-net.org/download.html (videos)"
_MSRVTT = "the MSR-VTT videos (TrainValVideo, TestVideo)"
_QA = "github.com/xudejing/video-question-answering"


def _video_paths(name: str, *folders: str) -> list[str]:
    return [f"{folder}/{name}.{extension}" for extension in _EXTENSIONS for folder in folders]


def _whole_video(_: Record) -> tuple[float, float | None]:
    return 0.0, None


def _read_activitynet_captions(file: Path) -> Iterator[Record]:
    """Read the segments of ActivityNet's videos, one record with a sentence for each."""
    for video in read.json_dict(file):
        segments = zip(video["timestamps"], video["sentences"], strict=True)
        for number, ((start, end), sentence) in enumerate(segments):
            yield {
                "key": video["key"],
                "number": number,
                "start": min(start, end),
                "end": max(start, end),
                "sentence": sentence.strip(),
            }


def _read_msvd_qa(file: Path) -> Iterator[Record]:
    """Read the questions of MSVD-QA; `youtube_mapping.txt` has the YouTube names of the videos."""
    mapping = read.ancestor_file(file, 1, "youtube_mapping.txt").read_text(encoding="utf-8")
    names = {number: name for name, number in map(str.split, mapping.splitlines())}
    for record in read.json_list()(file):
        yield record | {"youtube": names[f"vid{record['video_id']}"]}


_VIDEO_QA = BenchmarkSpec(
    homepage=f"{_QA}; {_MSRVTT}",
    splits=by_split("{}_qa.json"),
    read=read.json_list(),
    images=_video_paths("video{video_id}", "TrainValVideo", "TestVideo", "videos"),
    video_segment=_whole_video,
    id="{id}",
    question="question",
    answers="answer",
)

VIDEO_BENCHMARKS: dict[str, BenchmarkSpec] = {
    "activitynet_captions": BenchmarkSpec(
        homepage=f"cs.stanford.edu/people/ranjaykrishna/densevid (captions.zip); {_ACTIVITYNET}",
        splits=by_split("{}.json", {"train": "train", "validation": "val_1", "test": "val_2"}),
        read=_read_activitynet_captions,
        images=_video_paths("{key}", "videos"),
        video_segment=lambda record: (record["start"], record["end"]),
        id="{key}-{number}",
        captions="sentence",
    ),
    "activitynet_qa": BenchmarkSpec(
        homepage=f"github.com/MILVLG/activitynet-qa, dataset; {_ACTIVITYNET}",
        splits=by_split("{}_q.json", join="{}_a.json"),
        read=read.json_list(),
        join=RecordJoin(read=read.json_list(), left_on="question_id", right_on="question_id"),
        images=_video_paths("v_{video_name}", "videos"),
        video_segment=_whole_video,
        id="{question_id}",
        question="question",
        answers="joined.0.answer",
        attributes={"question_type": "joined.0.type"},
    ),
    "msrvtt_captions": BenchmarkSpec(
        homepage=f"ms-multimedia-challenge.com/2016 (videodatainfo); {_MSRVTT}",
        splits={
            split: (SplitFile(name=name, join_file=name, record_filter=("split", official)),)
            for split, official, name in (
                ("train", "train", "train_val_videodatainfo.json"),
                ("validation", "validate", "train_val_videodatainfo.json"),
                ("test", "test", "test_videodatainfo.json"),
            )
        },
        read=read.json_list("videos"),
        join=RecordJoin(read=read.json_list("sentences"), left_on="video_id", right_on="video_id"),
        images=_video_paths("{video_id}", "TrainValVideo", "TestVideo", "videos"),
        video_segment=_whole_video,
        id="{video_id}",
        captions="joined.*.caption",
    ),
    "msrvtt_qa": _VIDEO_QA,
    "msvd_qa": BenchmarkSpec(
        homepage=f"{_QA}; cs.utexas.edu/users/ml/clamp/videoDescription (YouTubeClips)",
        splits=by_split("{}_qa.json"),
        read=_read_msvd_qa,
        images=_video_paths("{youtube}", "YouTubeClips", "videos"),
        video_segment=_whole_video,
        id="{id}",
        question="question",
        answers="answer",
    ),
    "vatex": BenchmarkSpec(
        homepage="eric-xw.github.io/vatex-website; videos: YouTube, ten seconds of each",
        splits=by_split(
            "vatex_{}.json",
            {
                "train": "training_v1.0",
                "validation": "validation_v1.0",
                "test": "public_test_english_v1.1",
            },
        ),
        read=read.json_list(),
        images=_video_paths("{videoID}", "videos"),
        video_segment=_whole_video,
        id="{videoID}",
        captions="enCap",
    ),
}
