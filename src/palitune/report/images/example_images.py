"""The image of an evaluated example on a page, with its boxes and masks as a drawing over it."""

from collections.abc import Sequence
from pathlib import Path

from PIL.Image import Resampling

from palitune.data.images.io import open_image
from palitune.data.images.transforms import ImageTransform, crop_with_padding
from palitune.errors import DataError
from palitune.records import Example, Instance
from palitune.report.images.drawing import MAX_SHORT_SIDE, display_size, load_for_display
from palitune.report.images.image_grid import load_image_grid
from palitune.report.images.inline import InlineImage, encode_image, join_labels, photo_address
from palitune.report.images.overlay import MAX_INSTANCES, REFERENCE, Layer, draw_overlay
from palitune.report.run_reader import EvaluatedExample, ScoredPrediction, get_instances

_MAX_SHORT_SIDE = 700
"""Shorter side in pixels of an image without boxes: its text must be legible when enlarged."""
_OBJECTS_SHORT_SIDE, _OBJECTS_MAX_BYTES = 560, 40_000
"""Maximum pixels of the shorter side, and bytes, of an image with objects of one layer."""
_THUMBNAIL_SHORT_SIDE = 180


def captioned_predictions(example: EvaluatedExample) -> list[tuple[str, ScoredPrediction]]:
    """Return the predictions of an example as `prediction`, or as `after` and `before`."""
    if example.before is None:
        return [("prediction", example.after)]
    return [("after", example.after), ("before", example.before)]


def draw_example(
    example: EvaluatedExample, max_bytes: int, folder: Path, *, thumbnail: bool
) -> tuple[InlineImage, ...]:
    """Return the image of an example, of at most `max_bytes`; empty without images.

    Args:
        example: The example.
        max_bytes: Maximum bytes of the image before base64 encoding.
        folder: Folder of the page.
        thumbnail: Encode a small image.
    """
    if not example.images:
        return ()
    if not example.draws_boxes:
        return (_encode_inputs(example, max_bytes, folder, thumbnail),)
    path = example.images[0]
    layers = [Layer(REFERENCE, get_instances(example.reference))]
    layers += [Layer(k, get_instances(s.value)) for k, s in captioned_predictions(example)]
    side = _THUMBNAIL_SHORT_SIDE if thumbnail else MAX_SHORT_SIDE
    image = encode_image(
        load_for_display(path, example.size, side),
        f"{Path(path).name}: " + "; ".join(f"{x.name}: {join_labels(x.instances)}" for x in layers),
        note=", ".join(f"{layer.name}: {_count_objects(layer)}" for layer in layers),
        max_bytes=max_bytes,
        overlay=draw_overlay(example.size, layers, 20 if thumbnail else MAX_INSTANCES),
        photo=photo_address(path, folder),
    )
    return (image,)


def encode_objects(
    example: Example, instances: Sequence[Instance], alt: str, folder: Path
) -> InlineImage:
    """Return the images of an example with the objects of one layer drawn over them.

    Args:
        example: Example with at least one image.
        instances: Objects in the first image.
        alt: Alternative text.
        folder: Folder of the page.
    """
    whole = len(example.images) == 1 and example.tile is None
    return encode_image(
        load_image_grid(example.images, example.size, _OBJECTS_SHORT_SIDE, example.tile),
        alt,
        overlay=draw_overlay(example.size, [Layer("objects", instances)]) if instances else "",
        photo=photo_address(example.images[0], folder) if whole else "",
        max_bytes=_OBJECTS_MAX_BYTES,
    )


def encode_view(path: str, transform: ImageTransform, example: Example, note: str) -> InlineImage:
    """Return an augmented image with the objects that are left in it.

    Args:
        path: Image file.
        transform: Transform of the image.
        example: Example of the transformed image.
        note: Text after the caption.
    """
    instances = [item for item in example.reference if isinstance(item, Instance)]
    size = display_size(example.size, _OBJECTS_SHORT_SIDE)
    try:
        photo = open_image(path)
        part = photo if example.tile is None else crop_with_padding(photo, example.tile)
        image = transform.apply(part, size, Resampling.BICUBIC)
    except DataError:
        image = load_for_display(path, example.size, _OBJECTS_SHORT_SIDE)
    return encode_image(
        image,
        f"{Path(path).name}, augmented",
        caption="augmented",
        note=note,
        overlay=draw_overlay(example.size, [Layer("objects", instances)]) if instances else "",
        max_bytes=_OBJECTS_MAX_BYTES,
    )


def _count_objects(layer: Layer) -> str:
    count = len(layer.instances)
    return "1 object" if count == 1 else f"{count or 'no'} objects"


def _encode_inputs(
    example: EvaluatedExample, max_bytes: int, folder: Path, thumbnail: bool
) -> InlineImage:
    """Encode the input of the model; several images are placed in a grid."""
    count, name = len(example.images), Path(example.images[0]).name
    side = _THUMBNAIL_SHORT_SIDE if thumbnail else _MAX_SHORT_SIDE
    return encode_image(
        load_image_grid(example.images, example.size, side),
        f"Input image {name}" if count == 1 else f"{count} input images, the first {name}",
        max_bytes=max_bytes,
        photo=photo_address(example.images[0], folder) if count == 1 else "",
    )
