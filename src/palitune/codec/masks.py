"""Masks as `<seg>` text: `<loc>x4<seg>x16 label ; ...`, and back.

Follows big_vision's `pp/proj/paligemma/segmentation.py`. A mask is cropped to its box rounded to
pixels, resized to 64 x 64 and encoded by a VQ-VAE as 16 of 128 codes. It is decoded at the
resolution of the image: the 64 x 64 logits are resized to the box of the `<loc>` tokens, truncated
to pixels, and thresholded at 0. Torch is imported only when a codec is used.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palitune.codec import boxes
from palitune.codec.npz import read_npz
from palitune.codec.tokens import CODES_PER_MASK, NUM_CODES
from palitune.errors import DataError
from palitune.records import Box, Instance, Mask, Size

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from palitune.codec.mask_vqvae import MaskVQVAE

    Floats = npt.NDArray[np.float32]
    Codes = npt.NDArray[np.int64]

MASK_SIZE = 64
"""Height and width of the codec's masks, in pixels."""
EMBEDDED_CODEC = "embedded"
"""Name of the codec that ships with the package."""

_EMBEDDED_FILE = Path(__file__).parents[1] / "embedded" / "mask_codec.safetensors"
_DOWNLOAD_HINT = (
    "the released one is gs://big_vision/paligemma/vae-oid.npz, also in the Hugging Face space "
    "google/paligemma-hf: download it and give its path"
)
_CHUNK_SIZE = 128
"""Masks per forward pass; their activations take about 30 MB."""


class MaskCodec:
    """VQ-VAE between 64 x 64 masks and 16 codes, with numpy arrays in and out."""

    def __init__(self, network: "MaskVQVAE") -> None:
        self.network = network

    @classmethod
    def load(cls, path: str | PathLike[str]) -> "MaskCodec":
        """Load Google's `vae-oid.npz`, or a .safetensors file of the same tensors.

        Raises DataError if the file is missing or not such a codec.
        """
        from palitune.codec.mask_vqvae import load_mask_vqvae

        file = codec_path(str(path))
        try:
            return cls(load_mask_vqvae(_read_tensors(file)))
        except Exception as error:  # zip, numpy and safetensors raise many types for a bad file
            raise DataError(f"{file} is not a mask codec ({error}); {_DOWNLOAD_HINT}") from error

    def encode(self, masks: "npt.ArrayLike") -> "Codes":
        """Encode masks (n, 64, 64) in [0, 1] as codes (n, 16), each in 0..127."""
        import numpy as np

        pixels = np.asarray(masks, np.float32).reshape(-1, MASK_SIZE, MASK_SIZE)
        codes = np.empty((len(pixels), CODES_PER_MASK), np.int64)
        self._run_in_chunks(codes, pixels, self.network.encode)
        return codes

    def decode(self, codes: "npt.ArrayLike") -> "Floats":
        """Decode codes (n, 16) to mask logits (n, 64, 64); above 0 is inside."""
        import numpy as np

        inputs = np.asarray(codes, np.int64).reshape(-1, CODES_PER_MASK)
        logits = np.empty((len(inputs), MASK_SIZE, MASK_SIZE), np.float32)
        self._run_in_chunks(logits, inputs, self.network.decode)
        return logits

    @staticmethod
    def _run_in_chunks(
        outputs: "npt.NDArray[Any]", inputs: "npt.NDArray[Any]", forward: Any
    ) -> None:
        import torch

        with torch.inference_mode():
            for start in range(0, len(inputs), _CHUNK_SIZE):
                chunk = slice(start, start + _CHUNK_SIZE)
                outputs[chunk] = forward(torch.from_numpy(inputs[chunk])).numpy()


def codec_path(name_or_path: str) -> Path:
    """Return the file of a codec, which is named `embedded` or by its path.

    Raises DataError if the file does not exist.
    """
    file = _EMBEDDED_FILE if name_or_path == EMBEDDED_CODEC else Path(name_or_path).expanduser()
    if not file.is_file():
        raise DataError(
            f"mask codec {file} does not exist; {_DOWNLOAD_HINT}, or take '{EMBEDDED_CODEC}'"
        )
    return file


def codec_warnings(name_or_path: str) -> list[str]:
    """Return warnings to show before training with a codec."""
    if name_or_path != EMBEDDED_CODEC:
        return []
    return [
        "masks: the <seg> tokens of the embedded codec are unknown to the released checkpoints. "
        "To train one of them, set task.codec=vae-oid.npz."
    ]


def load_codec(name_or_path: str) -> MaskCodec:
    """Load a codec by name or path; a file that has not changed is loaded once."""
    file = codec_path(name_or_path).resolve()
    return _load_cached(file, file.stat().st_mtime_ns)


def require_mask(instance: Instance, size: Size) -> Mask:
    """Return the mask of an instance. Raises ValueError if it is missing or of another size."""
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
    """Crop a mask to its box, rounded to pixels and at least one pixel wide and high."""
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
    for target, crop in zip(resized, crops, strict=True):
        image = torch.from_numpy(crop.astype(np.float32))[None, None]
        small = interpolate(image, (MASK_SIZE, MASK_SIZE), mode="bilinear", antialias=True)
        target[:] = small[0, 0].numpy()
    return resized


def paste_mask(logits: "Floats", box: Box, size: Size) -> Mask:
    """Resize mask logits (64, 64) to a box and threshold them; False outside the box.

    The box is truncated to pixels; a box that contains no pixel gives an empty mask.
    """
    import numpy as np
    from PIL import Image

    width, height = size
    x0, y0, x1, y1 = (int(side) for side in box)
    mask = np.zeros((height, width), dtype=bool)
    if x0 < x1 and y0 < y1:
        resized = Image.fromarray(logits).resize((x1 - x0, y1 - y0), Image.Resampling.BILINEAR)
        mask[y0:y1, x0:x1] = np.asarray(resized) > 0
    return mask


def encode_masks(instances: Sequence[Instance], size: Size, codec: MaskCodec) -> list[str]:
    """Write the mask of each instance as 16 `<seg>` tokens.

    `size` is (width, height) in pixels. Raises ValueError as `require_mask` does.
    """
    crops = [crop_to_box(require_mask(instance, size), instance.box) for instance in instances]
    return ["".join(f"<seg{c:03d}>" for c in codes) for codes in codec.encode(resize_crops(crops))]


def decode_masks(
    codes: "npt.ArrayLike", object_boxes: Sequence[Box], size: Size, codec: MaskCodec
) -> list[Mask]:
    """Decode codes (n, 16) to masks (height, width) inside the objects' boxes.

    Args:
        codes: 16 codes per object, each in 0..127.
        object_boxes: Box of each object, in pixels.
        size: (width, height) of the image in pixels.
        codec: Codec that the codes belong to.
    """
    logits = codec.decode(codes)
    return [
        paste_mask(mask_logits, box, size)
        for mask_logits, box in zip(logits, object_boxes, strict=True)
    ]


def encode(
    instances: Sequence[Instance], size: Size, codec: MaskCodec, *, labelled: bool = True
) -> str:
    """Write instances with boxes, masks and labels in order.

    Arguments and errors are those of `boxes.encode` and `require_mask`.
    """
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
    """Parse all well-formed objects of a generated text with their masks; never raises.

    The arguments are those of `boxes.decode`. An object without exactly 16 `<seg>` tokens in 0..127
    is malformed as well.
    """
    objects, malformed = parse_objects(text, size, labelled=labelled, confidence=confidence)
    instances = [instance for instance, _ in objects]
    masks = decode_masks([codes for _, codes in objects], [i.box for i in instances], size, codec)
    pairs = zip(instances, masks, strict=True)
    return boxes.Decoded(tuple(replace(item, mask=mask) for item, mask in pairs), malformed)


def parse_objects(
    text: str,
    size: Size,
    *,
    labelled: bool = True,
    confidence: boxes.ConfidenceFn | None = None,
) -> tuple[list[tuple[Instance, tuple[int, ...]]], int]:
    """Parse objects as `decode` does; return each with its 16 codes, and the malformed count.

    The arguments are those of `boxes.decode`.
    """
    objects, malformed = boxes.parse_objects(text, size, labelled=labelled, confidence=confidence)
    valid = [
        (instance, codes)
        for instance, codes in objects
        if len(codes) == CODES_PER_MASK and max(codes) < NUM_CODES
    ]
    return valid, malformed + len(objects) - len(valid)


@cache
def _load_cached(file: Path, mtime_ns: int) -> MaskCodec:
    return MaskCodec.load(file)


def _read_tensors(file: Path) -> dict[str, Any]:
    import torch
    from safetensors.torch import load_file

    if file.suffix != ".npz":
        return dict(load_file(file))
    return {name: torch.from_numpy(array) for name, array in read_npz(file)}


def _pixel_span(low: float, high: float, length: int) -> tuple[int, int]:
    first = min(max(round(low), 0), length - 1)
    return first, max(first + 1, min(round(high), length))
