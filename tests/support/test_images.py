"""Generated images, and files of every supported format."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

_ORIENTATION = 0x0112


def noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(width * height).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def photo(width: int, height: int) -> Image.Image:
    """Return soft colored shapes of several sizes with a little noise."""
    grain = np.random.default_rng(0).integers(-6, 7, (height, width, 3), np.int16)
    for size in (200, 50, 12):
        coarse = noise(max(width // size, 2), max(height // size, 2))
        grain += np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)) // 3
    return Image.fromarray(grain.clip(0, 255).astype(np.uint8))


def text_page(width: int, height: int) -> Image.Image:
    """Return lines of black text on yellowish paper."""
    page = Image.new("RGB", (width, height), (250, 249, 240))
    canvas = ImageDraw.Draw(page)
    for number, y in enumerate(range(4, height, 14)):
        line = f"{number}. Total amount due: {number * 7919 % 10000} EUR; "
        canvas.text((4, y), line * (width // 200 + 1), fill="black")
    return page


def gradient(width: int, height: int) -> Image.Image:
    ramp = np.add.outer(np.linspace(0, 127, height), np.linspace(0, 127, width))
    return Image.fromarray(np.stack([ramp, 255 - ramp, ramp[:, ::-1]], -1).astype(np.uint8))


def checkerboard(width: int, height: int) -> Image.Image:
    """Return random black and white pixels, which depend most on the resize algorithm."""
    pixels = np.random.default_rng(1).integers(0, 2, (height, width), np.uint8) * 255
    return Image.fromarray(pixels).convert("RGB")


def save_all_formats(folder: Path) -> dict[str, Path]:
    """Write an image file of every format; return the paths by description."""
    frames = {"save_all": True, "append_images": [text_page(90, 50)]}
    kinds: dict[str, tuple[Image.Image, str, dict[str, object]]] = {
        "small photo": (photo(60, 41), "png", {}),
        "wide gradient": (gradient(1500, 7), "png", {}),
        "checks": (checkerboard(401, 300), "png", {}),
        "noise": (noise(503, 317), "png", {}),
        "pixel": (noise(1, 1), "png", {}),
        "of the model's size": (photo(224, 224), "png", {}),
        "grey png": (text_page(300, 401).convert("L"), "png", {}),
        "bilevel": (text_page(301, 200).convert("1"), "png", {}),
        "palette": (photo(200, 151).quantize(17), "png", {}),
        "clear colour": (photo(200, 151).quantize(17), "png", {"transparency": 3}),
        "alpha": (_with_alpha(photo(233, 151)), "png", {}),
        "grey alpha": (_with_alpha(photo(233, 151)).convert("LA"), "png", {}),
        "animated png": (photo(90, 50), "png", frames),
        "animated gif": (photo(90, 50), "gif", frames),
        "webp": (photo(333, 222), "webp", {}),
        "tiff": (text_page(333, 222).convert("CMYK"), "tif", {}),
        "bmp": (gradient(99, 222), "bmp", {}),
        "grey jpeg": (text_page(500, 333).convert("L"), "jpg", {}),
        "cmyk jpeg": (photo(333, 222).convert("CMYK"), "jpg", {}),
        "progressive jpeg": (photo(333, 222), "jpg", {"progressive": True}),
        "several jpegs": (photo(90, 50), "mpo", frames),
        **{f"jpeg {n}": (text_page(331, 227), "jpg", {"subsampling": n}) for n in range(3)},
        **{
            f"turned {n}": (photo(333, 222), "jpg", {"exif": _exif_with_orientation(n)})
            for n in (2, 3, 6, 7)
        },
        "turned png": (photo(120, 222), "png", {"exif": _exif_with_orientation(6)}),
    }  # fmt: skip
    files = {}
    for number, (kind, (image, ending, options)) in enumerate(kinds.items()):
        files[kind] = folder / f"{number}.{ending}"
        image.save(files[kind], **options)
    return files


def _with_alpha(image: Image.Image) -> Image.Image:
    image.putalpha(gradient(*image.size).convert("L"))
    return image


def _exif_with_orientation(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    return exif
