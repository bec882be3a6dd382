import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from palitune.records import Instance
from palitune.report.images.example_images import (
    captioned_predictions,
    count_images,
    draw_example,
)
from palitune.report.images.inline import InlineImage
from palitune.report.run_reader import EvaluatedExample, ScoredPrediction

BOAT = Instance("boat", (10, 10, 60, 60))
UNLIMITED = 10**9


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image that cannot be compressed."""
    path = tmp_path_factory.mktemp("noise") / "noise.png"
    pixels = np.random.default_rng(0).integers(0, 256, (900, 1200, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return str(path)


def evaluated(*images: str, boxes: bool, before: bool = False) -> EvaluatedExample:
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


def encoded(image: InlineImage) -> bytes:
    return base64.b64decode(image.data_uri.removeprefix("data:image/webp;base64,"))


def test_boxes_are_drawn_for_each_side() -> None:
    drawn = draw_example(
        evaluated("missing.png", boxes=True, before=True), UNLIMITED, thumbnail=False
    )
    assert [(p.caption, p.note) for p in drawn] == [
        ("reference", "2 objects"),
        ("after", "1 object"),
        ("before", "1 object"),
    ]
    assert drawn[1].alt == "after on missing.png: boat"
    assert [name for name, _ in captioned_predictions(evaluated(boxes=True))] == ["prediction"]


@pytest.mark.parametrize("thumbnail", [False, True])
def test_every_image_of_an_example_of_text_is_shown_in_one_row(thumbnail: bool) -> None:
    two = evaluated("a.png", "b.png", boxes=False)
    [image] = draw_example(two, UNLIMITED, thumbnail=thumbnail)
    assert image.alt == "2 input images, the first a.png"
    assert image.width > 2 * image.height


@pytest.mark.parametrize("thumbnail", [False, True])
@pytest.mark.parametrize("boxes", [False, True])
@pytest.mark.parametrize("images", [(), ("a.png",), ("a.png", "b.png")])
def test_the_number_of_images_is_known_in_advance(
    images: tuple[str, ...], boxes: bool, thumbnail: bool
) -> None:
    example = evaluated(*images, boxes=boxes, before=True)
    drawn = draw_example(example, UNLIMITED, thumbnail=thumbnail)
    assert len(drawn) == count_images(example, thumbnail=thumbnail)


@pytest.mark.parametrize("most", [60_000, 9_000, 1_500])
def test_an_image_does_not_exceed_its_bytes(noise: str, most: int) -> None:
    for boxes in (False, True):
        for image in draw_example(evaluated(noise, boxes=boxes), most, thumbnail=False):
            assert len(encoded(image)) <= most
            size = Image.open(io.BytesIO(encoded(image))).size
            assert size == (image.width, image.height)
            assert size[0] / size[1] == pytest.approx(4 / 3, rel=0.05)


def test_a_thumbnail_is_small(noise: str) -> None:
    (image,) = draw_example(evaluated(noise, boxes=True, before=True), UNLIMITED, thumbnail=True)
    assert (image.caption, min(image.width, image.height)) == ("after", 180)


def test_an_image_in_one_line_is_not_reduced_to_nothing(tmp_path: Path) -> None:
    Image.new("RGB", (2000, 1), "red").save(tmp_path / "line.png")
    example = evaluated(str(tmp_path / "line.png"), boxes=False)
    (image,) = draw_example(example, 1, thumbnail=True)
    assert image.height == 1
