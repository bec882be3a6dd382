"""Fast decoding gives Pillow's pixels, takes what is usual, and leaves Pillow the rest."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from palitune.data.images import fast_decoding
from palitune.data.images.io import decode_image, open_image
from palitune.errors import DataError

from support.test_images import photo, save_all_formats, text_page

LEFT_TO_PILLOW = {
    "bilevel", "palette", "clear colour", "alpha", "grey alpha", "animated png", "animated gif",
    "webp", "tiff", "bmp", "cmyk jpeg",
}  # fmt: skip


def test_all_usual_kinds_are_taken_and_their_pixels_are_pillows(tmp_path: Path) -> None:
    left = set()
    for kind, path in save_all_formats(tmp_path).items():
        with Image.open(path) as image:
            decode = (
                fast_decoding.decode_png if image.format == "PNG" else fast_decoding.decode_jpeg
            )
            if (decoded := decode(image, path)) is None:
                left.add(kind)
            else:
                assert decoded.mode == image.mode
                assert decoded.tobytes() == image.tobytes(), kind
    assert left == LEFT_TO_PILLOW


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_a_cut_file_is_refused(tmp_path: Path, ending: str) -> None:
    whole, cut = tmp_path / f"a.{ending}", tmp_path / f"b.{ending}"
    photo(200, 150).save(whole)
    for share in (0.1, 0.5, 0.9, 0.99):
        cut.write_bytes(whole.read_bytes()[: int(share * whole.stat().st_size)])
        with pytest.raises(DataError, match=rf"b\.{ending}"):
            open_image(cut)


def test_pixels_are_shared_and_a_change_of_the_image_stays_its_own(tmp_path: Path) -> None:
    text_page(120, 90).save(tmp_path / "a.jpg")
    image = decode_image(tmp_path / "a.jpg")
    before = fast_decoding.zero_copy_array(image)
    assert before.shape == (90, 120, 4)
    np.testing.assert_array_equal(before[..., :3], np.asarray(image))
    image.paste("red", (0, 0, 50, 50))
    assert image.getpixel((3, 3)) == (255, 0, 0)
    assert open_image(tmp_path / "a.jpg").getpixel((3, 3)) != (255, 0, 0)


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "RGB")])
def test_an_array_becomes_an_image_of_its_pixels(channels: int, mode: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 9, channels), np.uint8)
    image = fast_decoding.zero_copy_image(pixels)
    assert (image.mode, image.size) == (mode, (9, 7))
    shown = np.asarray(image).reshape(7, 9, -1)
    np.testing.assert_array_equal(shown, pixels[..., :3])
