"""Images are decoded upright, in RGB, with the size in the header and the pixels of Pillow."""

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from palitune.data.images.io import (
    decode_image,
    decode_jpeg,
    decode_png,
    open_image,
    read_header,
    read_size,
    zero_copy_array,
    zero_copy_image,
)
from palitune.errors import DataError

from support.test_images import photo, save_all_formats, text_page

RGB = np.random.default_rng(0).integers(0, 256, (40, 64, 3), dtype=np.uint8)
ORIENTATION = 0x0112
DECODED_BY_PILLOW = {
    "bilevel", "palette", "clear colour", "alpha", "grey alpha", "animated png", "animated gif",
    "webp", "tiff", "bmp", "cmyk jpeg",
}  # fmt: skip
# By the EXIF standard's words: where row 0 and column 0 of the stored pixels are shown.
UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,  # top, left
    2: lambda a: a[:, ::-1],  # top, right
    3: lambda a: a[::-1, ::-1],  # bottom, right
    4: lambda a: a[::-1],  # bottom, left
    5: lambda a: a.transpose(1, 0, 2),  # left, top
    6: lambda a: a[::-1].transpose(1, 0, 2),  # right, top
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),  # right, bottom
    8: lambda a: a[:, ::-1].transpose(1, 0, 2),  # left, bottom
}


def save_with_orientation(path: Path, orientation: int) -> Path:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(RGB).save(path, exif=exif)
    return path


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_applied(tmp_path: Path, ending: str, orientation: int) -> None:
    path = save_with_orientation(tmp_path / f"a.{ending}", orientation)
    plain = tmp_path / f"plain.{ending}"
    Image.fromarray(RGB).save(plain)
    expected = UPRIGHT[orientation](np.asarray(Image.open(plain).convert("RGB")))
    upright = open_image(path)
    np.testing.assert_array_equal(np.asarray(upright), expected)
    assert read_size(path) == upright.size == expected.shape[1::-1]


def test_only_an_orientation_that_swaps_the_sides_counts_as_transposed(tmp_path: Path) -> None:
    files = (save_with_orientation(tmp_path / "a.jpg", o) for o in range(1, 9))
    assert [read_header(file).transposed for file in files] == [False] * 4 + [True] * 4


def test_an_orientation_after_the_pixels_of_a_png_is_applied(tmp_path: Path) -> None:
    path = save_with_orientation(tmp_path / "a.png", 6)
    data = path.read_bytes()
    start = data.index(b"eXIf") - 4
    length = struct.unpack(">I", data[start : start + 4])[0] + 12
    end = data.index(b"IEND") - 4
    chunk = data[start : start + length]
    path.write_bytes(data[:start] + data[start + length : end] + chunk + data[end:])
    assert read_size(path) == open_image(path).size == (40, 64)


def test_illegible_exif_does_not_change_the_image(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(RGB).save(path, exif=b"Exif\0\0nonsense")
    assert read_size(path) == open_image(path).size == (64, 40)


def test_sixteen_bit_gray_is_scaled_not_clipped(tmp_path: Path) -> None:
    values = np.array([[0, 128, 257, 32768, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    assert np.asarray(open_image(tmp_path / "a.png"))[0, :, 0].tolist() == [0, 0, 1, 128, 255]


def test_sixteen_bit_color_keeps_its_high_byte(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    pixels = b"\0" + struct.pack(">HHH", 65535, 32768, 257)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    assert open_image(tmp_path / "a.png").getpixel((0, 0)) == (255, 128, 1)


def test_transparency_becomes_white(tmp_path: Path) -> None:
    faded = Image.new("RGBA", (4, 4), (200, 0, 0, 0))
    faded.putpixel((0, 0), (200, 0, 0, 255))
    faded.save(tmp_path / "rgba.png")
    faded.convert("LA").save(tmp_path / "la.png")
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([200, 0, 0, 0, 0, 250])
    palette.putpixel((0, 0), 1)
    palette.save(tmp_path / "p.png", transparency=0)
    Image.new("RGB", (4, 4), (7, 8, 9)).save(tmp_path / "rgb.png", transparency=(7, 8, 9))
    for name in ("rgba", "la", "p", "rgb"):
        assert open_image(tmp_path / f"{name}.png").getpixel((1, 1)) == (255, 255, 255)
    assert open_image(tmp_path / "rgba.png").getpixel((0, 0)) == (200, 0, 0)
    assert open_image(tmp_path / "p.png").getpixel((0, 0)) == (0, 0, 250)


@pytest.mark.parametrize(
    ("mode", "ending"),
    [("1", "png"), ("L", "png"), ("P", "gif"), ("CMYK", "jpg"), ("CMYK", "tif"), ("L", "jpg")],
)
def test_every_mode_is_converted_to_its_colors(tmp_path: Path, mode: str, ending: str) -> None:
    expected = Image.new("RGB", (16, 16), "white")
    expected.paste("black", (0, 0, 16, 8))
    expected.convert(mode).save(tmp_path / f"a.{ending}")
    opened = open_image(tmp_path / f"a.{ending}")
    assert opened.mode == "RGB"
    np.testing.assert_allclose(np.asarray(opened, int), np.asarray(expected, int), atol=2)


def test_an_image_without_orientation_is_what_pillow_reads(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.jpg")
    expected = ImageOps.exif_transpose(Image.open(tmp_path / "a.jpg")).convert("RGB")
    assert open_image(tmp_path / "a.jpg").tobytes() == expected.tobytes()


@pytest.mark.parametrize("ending", ["png", "jpg"])
@settings(max_examples=25, deadline=None)
@given(share=st.floats(0, 0.99))
def test_a_truncated_file_is_refused_by_its_header_alone(
    ending: str, share: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("cut") / f"a.{ending}"
    Image.fromarray(RGB).save(path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    for read in (read_size, open_image):
        with pytest.raises(DataError) as caught:
            read(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_jpeg_with_a_long_trailer_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(RGB).save(path)
    path.write_bytes(path.read_bytes() + b"\0" * 100_000)
    assert read_size(path) == (64, 40)


@pytest.mark.parametrize("read", [read_size, open_image])
def test_a_file_that_is_no_image_raises_one_sentence(tmp_path: Path, read: object) -> None:
    assert callable(read)
    (tmp_path / "text.png").write_text("version https://example.org")
    (tmp_path / "empty.png").touch()
    Image.new("F", (4, 4)).save(tmp_path / "float.tif")
    cases = {
        "missing.png": "does not exist",
        "text.png": "is not in a format that can be read; save it as PNG or JPEG",
        "empty.png": "is not in a format that can be read; save it as PNG or JPEG",
        "float.tif": "has 32 bits per pixel (mode F) of unknown range; save it with 8 or 16 bits",
    }
    for name, reason in cases.items():
        with pytest.raises(DataError) as caught:
            read(tmp_path / name)
        assert str(caught.value) == f"image {tmp_path / name} {reason}"
    with pytest.raises(DataError, match="cannot be read"):
        read(tmp_path)


def test_a_pipe_or_a_device_is_refused_without_being_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", Path("/dev/zero"), tmp_path):
        with pytest.raises(DataError, match="cannot be read: it is a folder, a pipe or a device"):
            read_header(str(path))


@pytest.mark.parametrize("kind", [2, 7, 10, 12])
def test_a_tiff_tag_of_an_odd_type_raises_one_sentence(tmp_path: Path, kind: int) -> None:
    file = tmp_path / "a.tif"
    Image.new("RGB", (4, 3)).save(file)
    content = bytearray(file.read_bytes())
    [start] = struct.unpack_from("<I", content, 4)
    [count] = struct.unpack_from("<H", content, start)
    entries = [start + 2 + 12 * number for number in range(count)]
    [strip_offsets] = [e for e in entries if struct.unpack_from("<H", content, e) == (273,)]
    struct.pack_into("<H", content, strip_offsets + 2, kind)
    file.write_bytes(content)
    with pytest.raises(DataError, match="cannot be read"):
        decode_image(str(file))


def test_an_image_with_too_many_pixels_raises_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("1", (2000, 2000)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000_000)
    with pytest.raises(DataError, match=r"a\.png has more than 2 million pixels; make it smaller"):
        read_size(tmp_path / "a.png")


def test_common_formats_are_decoded_without_pillow_to_the_same_pixels(tmp_path: Path) -> None:
    by_pillow = set()
    for name, path in save_all_formats(tmp_path).items():
        with Image.open(path) as image:
            decode = decode_png if image.format == "PNG" else decode_jpeg
            if (decoded := decode(image, path)) is None:
                by_pillow.add(name)
            else:
                assert decoded.mode == image.mode
                assert decoded.tobytes() == image.tobytes(), name
    assert by_pillow == DECODED_BY_PILLOW


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_a_truncated_photo_is_refused(tmp_path: Path, ending: str) -> None:
    complete, truncated = tmp_path / f"a.{ending}", tmp_path / f"b.{ending}"
    photo(200, 150).save(complete)
    for share in (0.1, 0.5, 0.9, 0.99):
        truncated.write_bytes(complete.read_bytes()[: int(share * complete.stat().st_size)])
        with pytest.raises(DataError, match=rf"b\.{ending}"):
            open_image(truncated)


def test_pixels_are_shared_and_an_image_can_still_be_changed(tmp_path: Path) -> None:
    text_page(120, 90).save(tmp_path / "a.jpg")
    image = decode_image(tmp_path / "a.jpg")
    pixels = zero_copy_array(image)
    assert pixels.shape == (90, 120, 4)
    np.testing.assert_array_equal(pixels[..., :3], np.asarray(image))
    image.paste("red", (0, 0, 50, 50))
    assert image.getpixel((3, 3)) == (255, 0, 0)
    assert open_image(tmp_path / "a.jpg").getpixel((3, 3)) != (255, 0, 0)


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "RGB")])
def test_an_array_is_converted_to_an_image_with_its_pixels(channels: int, mode: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 9, channels), np.uint8)
    image = zero_copy_image(pixels)
    assert (image.mode, image.size) == (mode, (9, 7))
    np.testing.assert_array_equal(np.asarray(image).reshape(7, 9, -1), pixels[..., :3])
