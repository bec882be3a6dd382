import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from palitune.records import Instance
from palitune.report.images.example_images import (
    ExampleImage,
    captioned_predictions,
    count_images,
    draw_example,
)
from palitune.report.run_reader import EvaluatedExample, ScoredPrediction

BOAT = Instance("boat", (10, 10, 60, 60))
PLENTY = 10**9


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image that cannot be compressed."""
    path = tmp_path_factory.mktemp("noise") / "noise.png"
    pixels = np.random.default_rng(0).integers(0, 256, (900, 1200, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return str(path)


def judged(*images: str, boxes: bool, before: bool = False) -> EvaluatedExample:
    answer = ScoredPrediction(text="", value=(BOAT,) if boxes else "7", scores={})
    return EvaluatedExample(
        id="1",
        part="p",
        images=images,
        size=(1200, 900),
        prefix="",
        reference=(BOAT, BOAT) if boxes else ("7",),
        after=answer,
        before=answer if before else None,
    )


def encoded(picture: ExampleImage) -> bytes:
    return base64.b64decode(picture.data_uri.removeprefix("data:image/webp;base64,"))


def test_boxes_are_drawn_for_each_side() -> None:
    drawn = draw_example(judged("gone.png", boxes=True, before=True), PLENTY, thumbnail=False)
    assert [(p.caption, p.note) for p in drawn] == [
        ("reference", "2 objects"),
        ("after", "1 object"),
        ("before", "1 object"),
    ]
    assert drawn[1].alt == "after on gone.png: boat"
    assert [name for name, _ in captioned_predictions(judged(boxes=True))] == ["prediction"]


@pytest.mark.parametrize("thumbnail", [False, True])
def test_every_image_of_an_example_of_text_is_shown_in_one_row(thumbnail: bool) -> None:
    two = judged("a.png", "b.png", boxes=False)
    [picture] = draw_example(two, PLENTY, thumbnail=thumbnail)
    assert picture.alt == "2 input images, the first a.png"
    assert picture.width > 2 * picture.height


@pytest.mark.parametrize("thumbnail", [False, True])
@pytest.mark.parametrize("boxes", [False, True])
@pytest.mark.parametrize("images", [(), ("a.png",), ("a.png", "b.png")])
def test_there_are_as_many_as_counted(
    images: tuple[str, ...], boxes: bool, thumbnail: bool
) -> None:
    example = judged(*images, boxes=boxes, before=True)
    drawn = draw_example(example, PLENTY, thumbnail=thumbnail)
    assert len(drawn) == count_images(example, thumbnail=thumbnail)


@pytest.mark.parametrize("most", [60_000, 9_000, 1_500])
def test_a_picture_keeps_to_its_bytes_whatever_it_shows(noise: str, most: int) -> None:
    for boxes in (False, True):
        for picture in draw_example(judged(noise, boxes=boxes), most, thumbnail=False):
            assert len(encoded(picture)) <= most
            size = Image.open(io.BytesIO(encoded(picture))).size
            assert size == (picture.width, picture.height)
            assert size[0] / size[1] == pytest.approx(4 / 3, rel=0.05)


def test_a_thumbnail_is_small(noise: str) -> None:
    (picture,) = draw_example(judged(noise, boxes=True, before=True), PLENTY, thumbnail=True)
    assert (picture.caption, min(picture.width, picture.height)) == ("after", 180)


def test_an_image_in_one_line_is_not_reduced_to_nothing(tmp_path: Path) -> None:
    Image.new("RGB", (2000, 1), "red").save(tmp_path / "line.png")
    example = judged(str(tmp_path / "line.png"), boxes=False)
    (picture,) = draw_example(example, 1, thumbnail=True)
    assert picture.height == 1
