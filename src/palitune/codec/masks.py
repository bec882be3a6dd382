"""Masks as `<seg>` text: `<loc>x4<seg>x16 label ; ...`, and back.

Follows big_vision's `pp/proj/paligemma/segmentation.py`: a mask is cropped to its box rounded to
pixels, resized to 64 x 64 and written as 16 of 128 codes of a VQ-VAE. It is read back at the
resolution of the image: what the codec draws, resized to the box that the `<loc>` tokens give,
truncated to pixels, is inside where it is above 0. Torch is imported where a codec is used.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palitune.codec import boxes
from palitune.errors import DataError
from palitune.records import Box, Instance, Mask, Size

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from palitune.codec.mask_vqvae import MaskVQVAE

    Floats = npt.NDArray[np.float32]
    Codes = npt.NDArray[np.int64]

MASK_SIZE = 64
"""Height and width of what the codec reads and draws, in pixels."""
CODES_PER_MASK = 16
"""`<seg>` tokens of a mask."""
NUM_CODES = 128
"""Different `<seg>` tokens."""
EMBEDDED_CODEC = "embedded"
"""Names the codec that comes with the package."""

_EMBEDDED_FILE = Path(__file__).parents[1] / EMBEDDED_CODEC / "mask_codec.safetensors"
_DOWNLOAD_HINT = (
    "the released one is gs://big_vision/paligemma/vae-oid.npz, also in the Hugging Face space "
    "google/paligemma-hf: download it and give its path"
)
_CHUNK_SIZE = 128
"""Masks that go through the network at once; their activations take some 30 MB."""


class MaskCodec:
    """A VQ-VAE between masks of 64 x 64 and 16 codes, numpy in and out."""

    def __init__(self, network: "MaskVQVAE") -> None:
        self.network = network

    @classmethod
    def load(cls, path: str | PathLike[str]) -> "MaskCodec":
        """Read `vae-oid.npz`, as Google released it, or a .safetensors of the same tensors.

        Raises DataError where the file is missing or is no such codec.
        """
        from palitune.codec.mask_vqvae import load_mask_vqvae

        file = codec_path(str(path))
        try:
            return cls(load_mask_vqvae(_read_tensors(file)))
        except Exception as mistake:  # whatever zip, numpy and safetensors say of a bad file
            raise DataError(f"{file} is no mask codec ({mistake}); {_DOWNLOAD_HINT}") from mistake

    def encode(self, masks: "npt.ArrayLike") -> "Codes":
        """Write masks (n, 64, 64) in [0, 1] as codes (n, 16), each in 0..127."""
        import numpy as np

        given = np.asarray(masks, np.float32).reshape(-1, MASK_SIZE, MASK_SIZE)
        codes = np.empty((len(given), CODES_PER_MASK), np.int64)
        self._run_in_chunks(codes, given, self.network.encode)
        return codes

    def decode(self, codes: "npt.ArrayLike") -> "Floats":
        """Draw masks (n, 64, 64) out of codes (n, 16); above 0 is inside."""
        import numpy as np

        given = np.asarray(codes, np.int64).reshape(-1, CODES_PER_MASK)
        drawn = np.empty((len(given), MASK_SIZE, MASK_SIZE), np.float32)
        self._run_in_chunks(drawn, given, self.network.decode)
        return drawn

    @staticmethod
    def _run_in_chunks(
        outputs: "npt.NDArray[Any]", inputs: "npt.NDArray[Any]", forward: Any
    ) -> None:
        """Take a step of the network over a chunk at a time."""
        import torch

        with torch.inference_mode():
            for start in range(0, len(inputs), _CHUNK_SIZE):
                chunk = slice(start, start + _CHUNK_SIZE)
                outputs[chunk] = forward(torch.from_numpy(inputs[chunk])).numpy()


def codec_path(name_or_path: str) -> Path:
    """Return the file of a codec: the embedded one, or the path that the name is.

    Raises DataError where there is no such file.
    """
    file = _EMBEDDED_FILE if name_or_path == EMBEDDED_CODEC else Path(name_or_path).expanduser()
    if not file.is_file():
        raise DataError(
            f"mask codec {file} does not exist; {_DOWNLOAD_HINT}, or take '{EMBEDDED_CODEC}'"
        )
    return file


def codec_warnings(name_or_path: str) -> list[str]:
    """Say what to know of a codec before training with it."""
    if name_or_path != EMBEDDED_CODEC:
        return []
    return [
        "masks: written by the embedded codec, whose <seg> tokens no released checkpoint knows; "
        "for one take task.codec=vae-oid.npz"
    ]


def load_codec(name_or_path: str) -> MaskCodec:
    """Return the codec `embedded`, or the one in a file; loaded again only if that has changed."""
    file = codec_path(name_or_path).resolve()
    return _load_cached(file, file.stat().st_mtime_ns)


def require_mask(instance: Instance, size: Size) -> Mask:
    """Return the mask. Raises ValueError where there is none, or one of another size."""
    if instance.mask is None:
        raise ValueError(
            f"object '{instance.label}' has no mask; segmentation needs one for each "
            "(data.masks=true reads them)"
        )
    if instance.mask.shape != (size[1], size[0]):
        height, width = instance.mask.shape
        raise ValueError(
            f"the mask of object '{instance.label}' has {width}x{height} px, the image "
            f"{size[0]}x{size[1]}; a mask covers the whole image"
        )
    return instance.mask


def crop_to_box(mask: Mask, box: Box) -> Mask:
    """Cut a box out of a mask: its sides rounded to pixels, one pixel at the least."""
    height, width = mask.shape
    x0, y0, x1, y1 = box
    (top, bottom), (left, right) = _pixel_span(y0, y1, height), _pixel_span(x0, x1, width)
    return mask[top:bottom, left:right]


def resize_crops(crops: "Sequence[npt.NDArray[Any]]") -> "Floats":
    """Resize crops of any size, in [0, 1] or bool, to (n, 64, 64): bilinear, antialiased."""
    import numpy as np
    import torch
    from torch.nn.functional import interpolate

    resized = np.empty((len(crops), MASK_SIZE, MASK_SIZE), np.float32)
    for target, given in zip(resized, crops, strict=True):
        image = torch.from_numpy(given.astype(np.float32))[None, None]
        small = interpolate(image, (MASK_SIZE, MASK_SIZE), mode="bilinear", antialias=True)
        target[:] = small[0, 0].numpy()
    return resized


def paste_mask(logits: "Floats", box: Box, size: Size) -> Mask:
    """Resize what the codec drew, (64, 64), to a box and threshold it; False outside the box.

    The box is truncated to pixels; one that is left without any gives an empty mask.
    """
    import numpy as np
    from PIL import Image

    width, height = size
    x0, y0, x1, y1 = (int(side) for side in box)
    mask = np.zeros((height, width), dtype=bool)
    if x0 < x1 and y0 < y1:
        shape = Image.fromarray(logits).resize((x1 - x0, y1 - y0), Image.Resampling.BILINEAR)
        mask[y0:y1, x0:x1] = np.asarray(shape) > 0
    return mask


def encode_masks(instances: Sequence[Instance], size: Size, codec: MaskCodec) -> list[str]:
    """Write the mask of each instance as 16 `<seg>` tokens.

    `size` is (width, height) in pixels. Raises ValueError where an instance has no mask, or one of
    another size.
    """
    crops = [crop_to_box(require_mask(instance, size), instance.box) for instance in instances]
    return ["".join(f"<seg{c:03d}>" for c in codes) for codes in codec.encode(resize_crops(crops))]


def decode_masks(
    codes: "npt.ArrayLike", object_boxes: Sequence[Box], size: Size, codec: MaskCodec
) -> list[Mask]:
    """Draw masks (height, width) out of codes (n, 16) and the box of each."""
    drawn = codec.decode(codes)
    return [paste_mask(one, box, size) for one, box in zip(drawn, object_boxes, strict=True)]


def encode(
    instances: Sequence[Instance], size: Size, codec: MaskCodec, *, labelled: bool = True
) -> str:
    """Write instances with their masks in the given order; errors as `boxes.encode`."""
    shapes = encode_masks(instances, size, codec)
    return boxes.encode(instances, size, labelled=labelled, shapes=shapes)


def decode(
    text: str,
    size: Size,
    codec: MaskCodec,
    *,
    labelled: bool = True,
    confidence: boxes.ConfidenceFn | None = None,
) -> boxes.Decoded:
    """Read every well-formed object with its mask out of a model's text; never raises.

    As `boxes.decode`; an object of other than 16 `<seg>` out of 0..127 is malformed, too.
    """
    found, malformed = parse_objects(text, size, labelled=labelled, confidence=confidence)
    instances = [instance for instance, _ in found]
    drawn = decode_masks([c for _, c in found], [i.box for i in instances], size, codec)
    pairs = zip(instances, drawn, strict=True)
    return boxes.Decoded(tuple(replace(one, mask=mask) for one, mask in pairs), malformed)


def parse_objects(
    text: str,
    size: Size,
    *,
    labelled: bool = True,
    confidence: boxes.ConfidenceFn | None = None,
) -> tuple[list[tuple[Instance, tuple[int, ...]]], int]:
    """Do what `decode` does, but return each object with its 16 codes, its mask not yet drawn."""
    found, malformed = boxes.parse_objects(text, size, labelled=labelled, confidence=confidence)
    whole = [
        (i, codes) for i, codes in found if len(codes) == CODES_PER_MASK and max(codes) < NUM_CODES
    ]
    return whole, malformed + len(found) - len(whole)


@cache
def _load_cached(file: Path, mtime_ns: int) -> MaskCodec:
    return MaskCodec.load(file)


def _read_tensors(file: Path) -> dict[str, Any]:
    import numpy as np
    import torch
    from safetensors.torch import load_file

    if file.suffix != ".npz":
        return dict(load_file(file))
    with np.load(file, allow_pickle=False) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def _pixel_span(low: float, high: float, length: int) -> tuple[int, int]:
    first = min(max(round(low), 0), length - 1)
    return first, max(first + 1, min(round(high), length))
