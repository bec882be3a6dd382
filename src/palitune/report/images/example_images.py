"""The pictures of an example as the page carries them: drawn, encoded, within a number of bytes."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from palitune.records import Instance
from palitune.report.images.drawing import MAX_SHORT_SIDE, draw_instances, load_for_display
from palitune.report.images.image_grid import load_image_grid
from palitune.report.run_reader import EvaluatedExample, ScoredPrediction, get_instances

if TYPE_CHECKING:
    from PIL.Image import Image

_WEBP_QUALITY = 82
# Pixels of the shorter side of an image without boxes: written text must stay legible enlarged.
_MAX_SHORT_SIDE = 700
_THUMBNAIL_SHORT_SIDE = 180
_MIN_LONG_SIDE = 48
"""Pixels of the longer side below which a picture is not reduced, however many bytes it takes."""


@dataclass(frozen=True)
class ExampleImage:
    caption: str
    """`reference`, `after`, ...; empty where the picture stands alone."""
    note: str
    """How many objects are drawn; empty where there are none to draw."""
    data_uri: str
    """A data URI."""
    alt: str
    width: int
    height: int


def captioned_predictions(example: EvaluatedExample) -> list[tuple[str, ScoredPrediction]]:
    """Name the answers of an example: `prediction`, or `after` and `before`."""
    if example.before is None:
        return [("prediction", example.after)]
    return [("after", example.after), ("before", example.before)]


def count_images(example: EvaluatedExample, *, thumbnail: bool) -> int:
    """How many pictures `pictures` makes."""
    if not example.images:
        return 0
    if thumbnail:
        return 1
    return 1 + len(captioned_predictions(example)) if example.draws_boxes else 1


def draw_example(
    example: EvaluatedExample, max_bytes: int, *, thumbnail: bool
) -> tuple[ExampleImage, ...]:
    """Draw an example, each picture encoded in at most so many bytes.

    A thumbnail is one small picture: of boxes, the answer over the reference.
    """
    if not example.images:
        return ()
    if not example.draws_boxes:
        return (_draw_inputs(example, max_bytes, thumbnail),)
    shown = load_for_display(
        example.images[0],
        example.size,
        max_short_side=_THUMBNAIL_SHORT_SIDE if thumbnail else MAX_SHORT_SIDE,
    )
    references = get_instances(example.reference)
    drawn = [
        (caption, get_instances(answer.value)) for caption, answer in captioned_predictions(example)
    ]
    drawn = drawn[:1] if thumbnail else [("reference", references), *drawn]
    return tuple(
        _encode_image(
            draw_instances(
                shown,
                instances,
                size=example.size,
                references=references if caption != "reference" else (),
            ),
            max_bytes,
            caption=caption,
            note=_format_count(instances),
            alt=f"{caption} on {Path(example.images[0]).name}: {_join_labels(instances)}",
        )
        for caption, instances in drawn
    )


def _draw_inputs(example: EvaluatedExample, max_bytes: int, thumbnail: bool) -> ExampleImage:
    """Show what the model saw; several images in a row."""
    count, name = len(example.images), Path(example.images[0]).name
    return _encode_image(
        load_image_grid(
            example.images, example.size, _THUMBNAIL_SHORT_SIDE if thumbnail else _MAX_SHORT_SIDE
        ),
        max_bytes,
        caption="",
        note="",
        alt=f"Input image {name}" if count == 1 else f"{count} input images, the first {name}",
    )


def _format_count(instances: tuple[Instance, ...]) -> str:
    return "1 object" if len(instances) == 1 else f"{len(instances) or 'no'} objects"


def _join_labels(instances: tuple[Instance, ...]) -> str:
    return ", ".join(instance.label for instance in instances) or "no objects"


def _encode_image(
    image: "Image", max_bytes: int, *, caption: str, note: str, alt: str
) -> ExampleImage:
    encoded = _encode_webp(image)
    while len(encoded) > max_bytes and max(image.size) > _MIN_LONG_SIDE:
        shrunk = min(0.8, 0.95 * (max_bytes / len(encoded)) ** 0.5)
        image = image.resize(
            (max(1, round(image.width * shrunk)), max(1, round(image.height * shrunk)))
        )
        encoded = _encode_webp(image)
    source = f"data:image/webp;base64,{base64.b64encode(encoded).decode('ascii')}"
    return ExampleImage(caption, note, source, alt, image.width, image.height)


def _encode_webp(image: "Image") -> bytes:
    file = io.BytesIO()
    image.save(file, "WEBP", quality=_WEBP_QUALITY, method=2)
    return file.getvalue()
