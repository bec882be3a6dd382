"""JSON Lines: every column is read, and an invalid row gives an error with file and line."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from palitune.data.images import io
from palitune.data.images.io import Header
from palitune.data.images.video import VideoSampling
from palitune.data.sources.columns.records import COLUMN_ALIASES
from palitune.data.sources.jsonl import Jsonl
from palitune.errors import DataError
from palitune.records import Instance, Row
from palitune.tasks.detection import Detection

from support.videos import frame_index, write_video

BOX_DESCRIPTION = "[x0, y0, x1, y1] in pixels"


def rows_of(folder: Path, *lines: Any, **columns: str) -> list[Row | DataError]:
    """Read lines (bytes as they are, anything else as JSON) next to an image of 40 x 30 px."""
    if not (folder / "a.png").exists():
        Image.new("RGB", (40, 30)).save(folder / "a.png")
    raw = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    (folder / "train.jsonl").write_bytes(b"\n".join(raw))
    return list(Jsonl(path=str(folder), columns=columns).rows("train"))


def row_of(folder: Path, line: Any, **columns: str) -> Row:
    [row] = rows_of(folder, line, **columns)
    assert isinstance(row, Row), row
    return row


def error_of(folder: Path, line: Any, **columns: str) -> str:
    [row] = rows_of(folder, line, **columns)
    assert isinstance(row, DataError), row
    start = f"{folder}/train.jsonl:1: "
    assert str(row).startswith(start)
    assert "\n" not in str(row)
    return str(row).removeprefix(start)


def test_numbers_in_text_columns_are_texts(tmp_path: Path) -> None:
    row = row_of(tmp_path, {"image": "a.png", "question": "how many?", "answers": [4, 2.5, "x"]})
    assert row.answers == ("4", "2.5", "x")
    assert row_of(tmp_path, {"image": "a.png", "answer": 0}).answers == ("0",)


def test_one_bad_line_names_all_its_faults(tmp_path: Path) -> None:
    line = {"image": "a.png", "question": ["q"], "objects": [{"label": 1}, {"label": "boat"}]}
    why = error_of(tmp_path, line)
    assert "column 'question' must be a text" in why
    assert "label must be a name, got 1" in why
    assert "instance must be" in why


CONVERSATION = [
    {"from": "human", "value": "<image>\nwhat is it?"}, {"from": "gpt", "value": "a boat"},
    {"from": "human", "value": "color?"}, {"from": "gpt", "value": "red"},
]  # fmt: skip


def test_a_conversation_of_llava_is_a_row_per_answer(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    entries = [{"id": "c7", "image": "a.png", "conversations": CONVERSATION}, "no record"]
    (tmp_path / "train.json").write_text(json.dumps(entries))
    first, second, bad = Jsonl(path=str(tmp_path)).rows("train")
    assert isinstance(first, Row)
    assert isinstance(second, Row)
    assert (first.id, first.prefix, first.suffix) == ("c7-1", "what is it?", "a boat")
    assert (second.id, second.prefix, second.suffix) == ("c7-2", "color?", "red")
    assert str(bad).startswith(f"{tmp_path}/train.json, record 2: line must be a JSON object")


def test_messages_hold_their_image_and_a_system_text(tmp_path: Path) -> None:
    content = [{"type": "image", "image": "a.png"}, {"type": "text", "text": "what?"}]
    messages = [
        {"role": "system", "content": "be short"}, {"role": "user", "content": content},
        {"role": "assistant", "content": [{"type": "text", "text": "boat"}]},
    ]  # fmt: skip
    row = row_of(tmp_path, {"messages": messages})
    assert (row.prefix, row.suffix) == ("be short what?", "boat")
    assert row.images == (str(tmp_path / "a.png"),)
    assert "must have a message of the user and its answer, got roles system, user" in error_of(
        tmp_path, {"messages": messages[:2]}
    )
    nameless = [messages[1] | {"content": ["what?"]}, messages[2]]
    assert "entries of messages must have a role and a text" in error_of(
        tmp_path, {"messages": nameless}
    )


def test_a_row_is_read_in_full(tmp_path: Path) -> None:
    written = {
        "image": "a.png",
        "id": 7,
        "prefix": "p",
        "suffix": "s",
        "question": "q?",
        "answers": ["x", "y"],
        "choices": ["x", "z"],
        "captions": ["c"],
        "text": "t",
        "instances": [{"label": "boat", "box": [1, 2.5, 40, 30]}],
        "licence": "ignored",
    }
    assert row_of(tmp_path, written) == Row(
        id="7",
        images=(str(tmp_path / "a.png"),),
        size=(40, 30),
        location=f"{tmp_path}/train.jsonl:1",
        prefix="p",
        suffix="s",
        question="q?",
        answers=("x", "y"),
        choices=("x", "z"),
        captions=("c",),
        text="t",
        instances=(Instance("boat", (1, 2.5, 40, 30)),),
    )


def test_attributes_are_read_as_text(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    row = {"image": "a.png", "kind": "count", "hard": True, "year": 1999, "none": None}
    (tmp_path / "train.jsonl").write_text(json.dumps(row | {"list": [1]}))
    source = Jsonl(path=str(tmp_path), attributes=["kind", "hard", "year", "none"])
    [found] = source.rows("train")
    assert isinstance(found, Row)
    assert found.attributes == {"kind": "count", "hard": "true", "year": "1999", "none": "null"}
    for name, text in (("type", "(data.attributes) must be present, got"), ("list", "got [1]")):
        [error] = Jsonl(path=str(tmp_path), attributes=[name]).rows("train")
        assert text in str(error)
        assert str(error).startswith(f"{tmp_path}/train.jsonl:1: column '{name}'")


def test_singular_column_names_and_single_texts_are_equivalent(tmp_path: Path) -> None:
    singular = {"image": "a.png", "answer": "x", "caption": "c", "objects": []}
    plural = {"images": ["a.png"], "answers": ["x"], "captions": ["c"], "instances": []}
    assert row_of(tmp_path, singular) == row_of(tmp_path, plural)


def test_the_default_id_is_file_and_line(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, {"image": "a.png"}, b"", {"image": "a.png"}, b"  ")
    assert [row.id for row in rows if isinstance(row, Row)] == ["train-1", "train-3"]


def test_null_is_an_absent_column(tmp_path: Path) -> None:
    row = row_of(tmp_path, {"image": "a.png", "id": None, "answers": None, "answer": "x"})
    assert (row.id, row.answers) == ("train-1", ("x",))


def test_columns_can_have_other_names(tmp_path: Path) -> None:
    written = {"file_name": "a.png", "query": "q?", "image": 5, "label": ["x"]}
    row = row_of(tmp_path, written, image="file_name", question="query", answers="label")
    assert (row.images, row.question, row.answers) == ((str(tmp_path / "a.png"),), "q?", ("x",))


def test_several_images_keep_their_order_and_the_first_gives_the_size(tmp_path: Path) -> None:
    Image.new("RGB", (9, 8)).save(tmp_path / "b.png")
    row = row_of(tmp_path, {"images": ["b.png", "a.png"]})
    assert row.images == (str(tmp_path / "b.png"), str(tmp_path / "a.png"))
    assert row.size == (9, 8)


def test_a_video_gives_the_frames_of_its_segment(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", 30)
    records = [{"video": "clip.mp4"}, {"video": "clip.mp4", "start": 1, "end": 1.55}]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, records)))
    source = Jsonl(path=str(tmp_path), frames=VideoSampling(count=3, stride=4))
    whole, part = source.rows("train")
    assert isinstance(whole, Row)
    assert isinstance(part, Row)
    assert whole.size == (64, 48)
    assert [frame_index(image) for image in whole.images] == [0, 4, 8]
    assert [frame_index(image) for image in part.images] == [10, 14, 10]


def test_images_may_lie_outside_the_folder(tmp_path: Path) -> None:
    Image.new("RGB", (9, 8)).save(tmp_path / "b.png")
    (tmp_path / "data").mkdir()
    for name in ("../b.png", str(tmp_path / "b.png"), "../data/.././b.png"):
        assert row_of(tmp_path / "data", {"image": name}).images == (str(tmp_path / "b.png"),)


def test_a_byte_order_mark_and_windows_line_ends_are_ignored(tmp_path: Path) -> None:
    line = b'\xef\xbb\xbf{"image": "a.png", "text": "\\u00e9\\ud83d\\ude00"}\r'
    assert row_of(tmp_path, line).text == "é😀"


WAY_OUT = 'Write one object per line, e.g. {"image": "a.png", "text": "..."}, in UTF-8.'


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b'{"image": "a.png",', "Expecting property name enclosed in double quotes, column 19"),
        (b"[", "Expecting value, column 2"),
        (b'["a.png"]', "got ['a.png']"),
        (b'"a.png"', "got 'a.png'"),
        (
            b'{"image": "\xff.png"}',
            "not UTF-8, byte 11",
        ),
        (
            b'{"image": "a.png", "text": "\\ud83d"}',
            "a text has half of a surrogate pair (\\ud800 to \\udfff)",
        ),
    ],
)
def test_a_line_that_is_not_an_object_is_an_error(tmp_path: Path, line: bytes, why: str) -> None:
    assert error_of(tmp_path, line) == f"line must be a JSON object ({why}). {WAY_OUT}"


def test_unlimited_nesting_is_an_error(tmp_path: Path) -> None:
    assert error_of(tmp_path, b"[" * 200_000).startswith("line must be a JSON object (")


@pytest.mark.parametrize(
    ("written", "why"),
    [
        (
            {"file": "a.png", "text": "t"},
            "column 'image' must be present, got columns 'file, text'. Set "
            "data.columns.image=COLUMN.",
        ),
        (
            {},
            "column 'image' must be present, got no columns. Set data.columns.image=COLUMN.",
        ),
        (
            {"image": 3},
            "image must be the path of an image file or a list of paths, relative to the "
            "annotation "
            "file, got 3.",
        ),
        (
            {"images": []},
            "image must be the path of an image file or a list of paths, relative to the "
            "annotation "
            "file, got [].",
        ),
        (
            {"image": "a.png", "video": "a.mp4"},
            "row must have an image or a video, got both. Remove one.",
        ),
        (
            {"video": 7},
            "video must be the path of a file, got 7.",
        ),
        (
            {"video": "a.mp4", "start": "0:10"},
            "column 'start' must be seconds, got '0:10'.",
        ),
        (
            {"image": "a.png", "images": ["a.png"]},
            "row must have one of 'images' and 'image', got both. Remove one, or set "
            "data.columns.images=images.",
        ),
        (
            {"image": "https://example.org/a.png"},
            "image must be a path relative to the data, got the URL 'https://example.org/a.png'. "
            "Download the images.",
        ),
        ({"image": "a.png", "id": 1.5}, "id must be a text or an integer, got 1.5."),
        ({"image": "a.png", "id": ""}, "id must be a text or an integer, got ''."),
        (
            {"image": "a.png", "question": ["q"]},
            "column 'question' must be a text, got ['q']. Correct it, or set "
            "data.columns.question=COLUMN.",
        ),
        (
            {"image": "a.png", "answer": True},
            "column 'answers' must be a text or a list of texts, got True. Correct it, or set "
            "data.columns.answers=COLUMN.",
        ),
        (
            {"image": "a.png", "answers": [{"answer": "x"}]},
            "column 'answers' must be a text or a list of texts, got [{'answer': 'x'}]. Correct "
            "it, "
            "or set data.columns.answers=COLUMN.",
        ),
        (
            {"image": "a.png", "objects": "boat"},
            'column \'instances\' must be a list of {"label": ..., "box": [x0, y0, x1, y1] in '
            "pixels}, got 'boat'.",
        ),
        (
            {"image": "a.png", "objects": {"bbox": [[1, 2, 3, 4]], "class": [1]}},
            "objects must have a list 'bbox' and a list 'category', got {'bbox': [[1, 2, 3, 4]], "
            "'class': [1]}. Rename the columns.",
        ),
        (
            {"image": "a.png", "objects": {"bbox": [[1, 2, 3, 4]], "category": []}},
            "objects must have a label for each of 1 boxes, got 0 labels.",
        ),
        (
            {"image": "a.png", "objects": [{"label": "boat", "bbox": [1, 2, 3, 4]}]},
            "the format of 'bbox' is ambiguous. Set data.box_format=xywh (COCO), xyxy or cxcywh, "
            "and "
            "data.normalized=true for fractions.",
        ),
        (
            {"image": "a.png", "objects": [{"name": "boat", "box": [1, 2, 3, 4]}]},
            'instance must be {"label": "a name", "box": [x0, y0, x1, y1] in pixels}, got '
            "{'name': 'boat', 'box': [1, 2, 3, 4]}. Add or rename its keys.",
        ),
        (
            {"image": "a.png", "objects": [{"label": 3, "box": [1, 2, 3, 4]}]},
            "label must be a name, got 3. List the classes, in order, with data.classes=[...].",
        ),
        (
            {"image": "a.png", "objects": [{"label": "boat", "box": [1, 2, 3]}]},
            f"box must be four numbers, got [1, 2, 3]. Boxes are {BOX_DESCRIPTION}.",
        ),
        (
            {"image": "a.png", "objects": [{"label": "boat", "box": [1, 2, 43, 4]}]},
            f"box must lie inside the image (40x30 px), got x1=43. Boxes are {BOX_DESCRIPTION}.",
        ),
    ],
)
def test_an_invalid_column_is_an_error_with_its_reason(
    tmp_path: Path, written: dict[str, Any], why: str
) -> None:
    assert error_of(tmp_path, written) == why


def test_a_missing_or_broken_image_names_line_and_image(tmp_path: Path) -> None:
    assert error_of(tmp_path, {"image": "b.png"}) == f"image {tmp_path}/b.png does not exist"
    (tmp_path / "c.png").write_bytes((tmp_path / "a.png").read_bytes()[:50])
    assert error_of(tmp_path, {"image": "c.png"}).startswith(f"image {tmp_path}/c.png is truncated")


def test_a_mapped_column_must_exist(tmp_path: Path) -> None:
    assert error_of(tmp_path, {"image": "a.png", "q": "?"}, question="query") == (
        "column 'query' (data.columns.question) must be present, got columns 'image, q'. Set the "
        "right name."
    )


def test_unknown_columns_are_rejected_before_a_file_is_read() -> None:
    with pytest.raises(ValueError, match=r"data\.columns must map images, .*, got 'img'"):
        Jsonl(path="x", columns={"img": "a"})
    with pytest.raises(ValueError, match=r"data\.columns must map one of answers and answer"):
        Jsonl(path="x", columns={"answer": "a", "answers": "b"})


def test_an_invalid_row_does_not_stop_the_next_ones(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, {"image": "a.png"}, b"{", {"image": "b.png"}, {"image": "a.png"})
    assert [type(row) for row in rows] == [Row, DataError, DataError, Row]
    assert [str(row).split(": ")[0] for row in rows[1:3]] == [
        f"{tmp_path}/train.jsonl:2",
        f"{tmp_path}/train.jsonl:3",
    ]


def test_rows_of_one_image_read_its_file_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    monkeypatch.setattr(io, "read_header", lambda p: read.append(p) or Header((4, 3), False))
    rows = rows_of(tmp_path, {"image": "a.png"}, {"image": "./a.png"}, {"image": "b.png"})
    assert [row.size for row in rows if isinstance(row, Row)] == [(4, 3)] * 3
    assert read == [str(tmp_path / "a.png"), str(tmp_path / "b.png")]


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
names = st.sampled_from([name for spelled in COLUMN_ALIASES.values() for name in spelled])
boxes = st.fixed_dictionaries({"label": st.text(), "box": st.lists(anything, max_size=5)})


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    written=st.dictionaries(names, anything | st.lists(boxes, max_size=2), max_size=4),
    image=st.none() | st.just("a.png"),
    raw=st.none() | st.binary(max_size=40).filter(lambda line: b"\n" not in line),
)
def test_any_line_gives_a_row_or_an_error(
    tmp_path: Path, written: dict[str, Any], image: str | None, raw: bytes | None
) -> None:
    line = {"image": image, **written} if raw is None else raw
    for row in rows_of(tmp_path, line):
        if isinstance(row, DataError):
            assert str(row).startswith(f"{tmp_path}/train.jsonl:1: ")
        else:
            assert all(0 <= x <= 40 for i in row.instances or () for x in (i.box[0], i.box[2]))


def test_an_instance_may_have_a_mask_and_be_a_crowd(tmp_path: Path) -> None:
    boat = {"label": "boat", "box": [1, 2, 11, 22], "mask": [1, 2, 11, 2, 11, 22, 1, 22]}
    line = {"image": "a.png", "instances": [boat | {"crowd": True}]}
    [instance] = row_of(tmp_path, line).instances or ()
    assert (instance.mask, instance.crowd) == (None, True)
    [row] = Jsonl(path=str(tmp_path), masks=True).rows("train")
    assert isinstance(row, Row)
    [instance] = row.instances or ()
    assert instance.mask is not None
    assert (instance.mask.shape, int(instance.mask.sum())) == ((30, 40), 200)


def test_paligemma_files_of_roboflow_work_for_detection(tmp_path: Path) -> None:
    Image.new("RGB", (1023, 1023)).save(tmp_path / "a.jpg")
    text = "<loc0050><loc0020><loc0060><loc0030> boat ; <loc0001><loc0002><loc0003><loc0004> buoy"
    rows = [
        {"image": "a.jpg", "prefix": "detect boat ; buoy", "suffix": text},
        {"image": "a.jpg", "prefix": "detect boat ; buoy", "suffix": ""},
        {"image": "a.jpg", "prefix": "detect boat", "suffix": "<loc0050> boat"},
    ]
    (tmp_path / "dataset").mkdir()
    (tmp_path / "a.jpg").rename(tmp_path / "dataset/a.jpg")
    lines = "\n".join(map(json.dumps, rows))
    (tmp_path / "dataset/_annotations.train.jsonl").write_text(lines)
    found, empty, bad = Jsonl(path=str(tmp_path)).rows("train")
    assert isinstance(found, Row)
    assert isinstance(empty, Row)
    assert isinstance(bad, Row)
    example = Detection().example(found)
    assert (example.prefix, example.suffixes) == ("detect boat ; buoy", (text,))
    assert example.reference == (
        Instance("boat", (20, 50, 30, 60)),
        Instance("buoy", (2, 1, 4, 3)),
    )
    assert Detection().example(empty).reference == ()
    assert [Detection(negative_ratio=0).include_in_training(row) for row in (found, empty)] == [
        True,
        False,
    ]
    with pytest.raises(DataError, match=r"train\.jsonl:3: suffix '<loc0050> boat' is not"):
        Detection().example(bad)


def test_names_of_donut_are_read_unless_there_are_ours(tmp_path: Path) -> None:
    truth = json.dumps({"gt_parses": [{"total": "5"}, {"total": "6"}]})
    row = row_of(tmp_path, {"file_name": "a.png", "ground_truth": truth})
    assert row.json == '{"total": "5"}'
    both = {"image": "a.png", "file_name": "b.png", "json": {"é": [1]}, "ground_truth": truth}
    assert row_of(tmp_path, both).json == '{"é": [1]}'
    assert row_of(tmp_path, {"image": "a.png", "ground_truth": "a text"}).json == "a text"
    assert row_of(tmp_path, {"image": "a.png", "json": None}).json is None


def test_a_pipe_as_annotation_file_is_refused_without_being_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for file in ("pipe", "/dev/zero"):
        with pytest.raises(DataError, match="must be a file, got a pipe or a device"):
            Jsonl(path=str(tmp_path), splits={"train": file}).annotation_file("train")
