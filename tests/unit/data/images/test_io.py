"""Images come out upright, in RGB and of the size that the header promised."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from palitune.data.images.io import open_image, read_header, read_size
from palitune.errors import DataError

RGB = np.random.default_rng(0).integers(0, 256, (40, 64, 3), dtype=np.uint8)
ORIENTATION = 0x0112
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


def stored(path: Path, orientation: int) -> Path:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(RGB).save(path, exif=exif)
    return path


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_applied(tmp_path: Path, ending: str, orientation: int) -> None:
    path = stored(tmp_path / f"a.{ending}", orientation)
    plain = tmp_path / f"plain.{ending}"
    Image.fromarray(RGB).save(plain)
    expected = UPRIGHT[orientation](np.asarray(Image.open(plain).convert("RGB")))
    upright = open_image(path)
    np.testing.assert_array_equal(np.asarray(upright), expected)
    assert read_size(path) == upright.size == expected.shape[1::-1]


def test_only_an_orientation_that_swaps_the_sides_counts_as_turned(tmp_path: Path) -> None:
    turned = [read_header(stored(tmp_path / "a.jpg", o)).transposed for o in range(1, 9)]
    assert turned == [False] * 4 + [True] * 4


def test_an_orientation_that_stands_after_the_pixels_of_a_png_is_seen(tmp_path: Path) -> None:
    path = stored(tmp_path / "a.png", 6)
    data = path.read_bytes()
    start = data.index(b"eXIf") - 4
    length = struct.unpack(">I", data[start : start + 4])[0] + 12
    end = data.index(b"IEND") - 4
    chunk = data[start : start + length]
    path.write_bytes(data[:start] + data[start + length : end] + chunk + data[end:])
    assert read_size(path) == open_image(path).size == (40, 64)


def test_illegible_exif_leaves_the_image_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(RGB).save(path, exif=b"Exif\0\0nonsense")
    assert read_size(path) == open_image(path).size == (64, 40)


def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path: Path) -> None:
    values = np.array([[0, 128, 257, 32768, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    assert np.asarray(open_image(tmp_path / "a.png"))[0, :, 0].tolist() == [0, 0, 1, 128, 255]


def test_sixteen_bit_colour_keeps_its_high_byte(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        checked = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checked)

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
def test_every_mode_comes_out_as_the_colours_it_shows(
    tmp_path: Path, mode: str, ending: str
) -> None:
    shown = Image.new("RGB", (16, 16), "white")
    shown.paste("black", (0, 0, 16, 8))
    shown.convert(mode).save(tmp_path / f"a.{ending}")
    opened = open_image(tmp_path / f"a.{ending}")
    assert opened.mode == "RGB"
    np.testing.assert_allclose(np.asarray(opened, int), np.asarray(shown, int), atol=2)


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


def test_a_jpeg_with_a_long_trailer_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(RGB).save(path)
    path.write_bytes(path.read_bytes() + b"\0" * 100_000)
    assert read_size(path) == (64, 40)


@pytest.mark.parametrize("read", [read_size, open_image])
def test_what_is_no_image_is_one_sentence(tmp_path: Path, read: object) -> None:
    assert callable(read)
    (tmp_path / "text.png").write_text("version https://example.org")
    (tmp_path / "empty.png").touch()
    Image.new("F", (4, 4)).save(tmp_path / "float.tif")
    cases = {
        "missing.png": "does not exist",
        "text.png": "is not in a format that can be read; save it anew",
        "empty.png": "is not in a format that can be read; save it anew",
        "float.tif": "has 32 bits per pixel (mode F), whose range is unknown; "
        "save it with 8 or 16 bits",
    }
    for name, why in cases.items():
        with pytest.raises(DataError) as caught:
            read(tmp_path / name)
        assert str(caught.value) == f"image {tmp_path / name} {why}"
    with pytest.raises(DataError, match="cannot be read"):
        read(tmp_path)


def test_an_image_of_too_many_pixels_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("1", (2000, 2000)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000_000)
    with pytest.raises(DataError, match=r"a\.png has more than 2 million pixels; make it smaller"):
        read_size(tmp_path / "a.png")
