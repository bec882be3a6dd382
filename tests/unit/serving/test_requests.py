"""Requests are checked before anything is decoded or computed."""

import base64
import io
import pickle
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from palitune.data.images.io import EncodedImage, open_image, read_size
from palitune.errors import DataError
from palitune.serving.config import ServerConfig
from palitune.serving.requests import (
    PredictBody,
    ServedTasks,
    build_question,
    check_image,
    decode_image,
)
from palitune.tasks.detection import Detection
from palitune.tasks.ocr import Ocr

SETTINGS = ServerConfig(max_image_bytes=50_000, max_image_pixels=100_000, max_prompt_chars=40)
TASKS = ServedTasks((Ocr(), Detection(classes=["boat"], max_new_tokens=77)))


def encoded(size: tuple[int, int] = (40, 30), kind: str = "PNG", mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.new(mode, size, 128).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_an_image_in_memory_has_the_pixels_of_its_file(kind: str) -> None:
    data = encoded(kind=kind)
    for text in (
        base64.b64encode(data).decode(),
        "data:image/x;base64," + base64.b64encode(data).decode(),
    ):
        image = decode_image(text, SETTINGS)
        assert image.data == data
        assert read_size(image) == (40, 30)
        assert open_image(image).tobytes() == Image.open(io.BytesIO(data)).convert("RGB").tobytes()


def test_equal_images_have_equal_names_and_survive_pickling() -> None:
    first, second = EncodedImage(encoded()), EncodedImage(encoded())
    assert first == second
    assert first != EncodedImage(encoded((41, 30)))
    again = pickle.loads(pickle.dumps(first))
    assert again == first
    assert again.data == first.data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "cannot be opened"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "cannot be opened"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "cannot be opened"),
        (encoded((1000, 101)), "at most 100000 pixels"),
        (b"\x89PNG\r\n\x1a\n" + bytes(60_000), "at most 50000 bytes"),
    ],
)
def test_a_bad_image_is_refused_with_a_sentence(data: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_image(data, SETTINGS)


def test_a_bomb_is_refused_by_its_header() -> None:
    data = bytearray(encoded())
    data[16:24] = (50_000).to_bytes(4, "big") * 2  # width and height of IHDR
    with pytest.raises(DataError, match=r"pixels|cannot be opened"):
        check_image(bytes(data), replace(SETTINGS, max_image_pixels=50_000_000))


@pytest.mark.parametrize("text", ["data:image/png,abc", "no base64!", "data:;base64,%%%", "é"])
def test_text_that_is_no_base64_is_refused(text: str) -> None:
    with pytest.raises(DataError, match=r"base64"):
        decode_image(text, SETTINGS)


@given(st.binary(max_size=200))
def test_any_bytes_are_an_image_or_a_sentence(data: bytes) -> None:
    try:
        image = check_image(data, SETTINGS)
    except DataError:
        return
    assert image.data == data


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from([*PredictBody.model_fields, "other"]), inner, max_size=4
            )
        ),
        max_leaves=8,
    )
)
def test_any_json_is_a_request_or_refused(data: object) -> None:
    try:
        body = PredictBody.model_validate(data)
    except ValidationError:
        return
    try:
        question = build_question(body, [EncodedImage(encoded())], TASKS, SETTINGS)
    except DataError:
        return
    assert 1 <= (question.max_new_tokens or 0) <= SETTINGS.max_answer_tokens


def test_a_prompt_is_parsed_by_the_task_that_was_served() -> None:
    images = [EncodedImage(encoded())]
    body = PredictBody(prompt="detect boat ; buoy")
    question = build_question(body, images, TASKS, SETTINGS)
    assert question.max_new_tokens == 77
    assert question.example.size == (40, 30)
    assert (
        build_question(PredictBody(task="detection"), images, TASKS, SETTINGS).task
        == TASKS.tasks[1]
    )


@pytest.mark.parametrize(
    ("body", "count", "message"),
    [
        (PredictBody(prompt="ocr"), 0, "images must be 1 to 16, got 0"),
        (PredictBody(prompt="ocr"), 17, "images must be 1 to 16, got 17"),
        (PredictBody(prompt="x" * 41), 1, "at most 40 characters, got 41"),
        (PredictBody(prompt="a\x00b"), 1, "without control characters"),
        (PredictBody(prompt="detect boat"), 2, "2 images, but task detection"),
        (PredictBody(task="flight"), 1, "task must be one of"),
        (PredictBody(), 1, "prompt is missing"),
    ],
)
def test_a_request_beyond_the_limits_is_a_sentence(
    body: PredictBody, count: int, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        build_question(body, [EncodedImage(encoded())] * count, TASKS, SETTINGS)


def test_the_first_presets_are_those_of_the_model() -> None:
    presets = TASKS.presets()
    assert presets[:2] == [
        {"task": "ocr", "prompt": "ocr"},
        {"task": "detection", "prompt": "detect boat"},
    ]
    names = [preset["task"] for preset in presets]
    assert len(names) == len(set(names))
    assert {"segmentation", "caption"} <= set(names)
    assert names.index("ocr") < names.index("segmentation")
