import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from palitune.records import Instance
from palitune.report.images.example_images import (
    captioned_predictions,
    draw_example,
)
from palitune.report.images.inline import InlineImage, photo_address
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


def draw(example: EvaluatedExample, most: int = UNLIMITED, **kwargs: bool) -> InlineImage:
    (image,) = draw_example(example, most, Path.cwd(), **kwargs)
    return image


@pytest.mark.parametrize("thumbnail", [False, True])
def test_one_image_carries_a_layer_for_each_side(thumbnail: bool) -> None:
    example = evaluated("missing.png", boxes=True, before=True)
    image = draw(example, thumbnail=thumbnail)
    assert image.note == "reference: 2 objects, after: 1 object, before: 1 object"
    assert image.alt == "missing.png: reference: boat, boat; after: boat; before: boat"
    layers = re.findall(r'<g class="layer (\w+)">(.*?</g>)</g>', image.overlay)
    assert [(name, shapes.count("data-label")) for name, shapes in layers] == [
        ("reference", 2),
        ("after", 1),
        ("before", 1),
    ]
    assert image.photo == ""
    assert [name for name, _ in captioned_predictions(evaluated(boxes=True))] == ["prediction"]


def test_the_address_of_the_photo_is_relative_to_the_page(tmp_path: Path) -> None:
    photo = tmp_path / "my photos" / "a#1.jpg"
    photo.parent.mkdir()
    Image.new("RGB", (40, 30)).save(photo)
    (tmp_path / "scan.tif").touch()
    assert photo_address(str(photo), tmp_path / "run") == "../my%20photos/a%231.jpg"
    assert photo_address(str(tmp_path / "scan.tif"), tmp_path) == ""  # browsers do not show it
    assert photo_address(str(tmp_path / "missing.jpg"), tmp_path) == ""


@pytest.mark.parametrize("thumbnail", [False, True])
def test_every_image_of_an_example_of_text_is_shown_in_one_row(thumbnail: bool) -> None:
    two = evaluated("a.png", "b.png", boxes=False)
    image = draw(two, thumbnail=thumbnail)
    assert image.alt == "2 input images, the first a.png"
    assert image.width > 2 * image.height


def test_an_example_without_images_has_none() -> None:
    assert draw_example(evaluated(boxes=True), UNLIMITED, Path(), thumbnail=False) == ()


@pytest.mark.parametrize("most", [60_000, 9_000, 1_500])
def test_an_image_does_not_exceed_its_bytes(noise: str, most: int) -> None:
    for boxes in (False, True):
        image = draw(evaluated(noise, boxes=boxes), most, thumbnail=False)
        assert len(encoded(image)) <= most
        size = Image.open(io.BytesIO(encoded(image))).size
        assert size == (image.width, image.height)
        assert size[0] / size[1] == pytest.approx(4 / 3, rel=0.05)


def test_a_thumbnail_is_small(noise: str) -> None:
    image = draw(evaluated(noise, boxes=True, before=True), thumbnail=True)
    assert min(image.width, image.height) == 180


def test_an_image_in_one_line_is_not_reduced_to_nothing(tmp_path: Path) -> None:
    Image.new("RGB", (2000, 1), "red").save(tmp_path / "line.png")
    example = evaluated(str(tmp_path / "line.png"), boxes=False)
    image = draw(example, 1, thumbnail=True)
    assert image.height == 1
