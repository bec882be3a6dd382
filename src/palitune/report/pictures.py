"""The pictures of an example as the page carries them: drawn, encoded, within a number of bytes."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from palitune.examples import Instance
from palitune.report.drawing import SHORT, draw_instances, load_shown
from palitune.report.image_rows import load_row
from palitune.report.run_folder import Answer, Judged, objects

if TYPE_CHECKING:
    from PIL.Image import Image

_QUALITY = 82
# Pixels of the shorter side of an image without boxes: written text must stay legible enlarged.
_SHORT_ALONE = 700
_SHORT_THUMBNAIL = 180
_SMALLEST = 48
"""Pixels of the longer side below which a picture is not reduced, however many bytes it takes."""


@dataclass(frozen=True)
class Picture:
    caption: str
    """`reference`, `after`, ...; empty where the picture stands alone."""
    note: str
    """How many objects are drawn; empty where there are none to draw."""
    source: str
    """A data URI."""
    alt: str
    width: int
    height: int


def answers(example: Judged) -> list[tuple[str, Answer]]:
    """Name the answers of an example: `prediction`, or `after` and `before`."""
    if example.before is None:
        return [("prediction", example.after)]
    return [("after", example.after), ("before", example.before)]


def count(example: Judged, *, thumbnail: bool) -> int:
    """How many pictures `pictures` makes."""
    if not example.images:
        return 0
    if thumbnail:
        return 1
    return 1 + len(answers(example)) if example.draws_boxes else 1


def pictures(example: Judged, most_bytes: int, *, thumbnail: bool) -> tuple[Picture, ...]:
    """Draw an example, each picture encoded in at most so many bytes.

    A thumbnail is one small picture: of boxes, the answer over the reference.
    """
    if not example.images:
        return ()
    if not example.draws_boxes:
        return (_plain(example, most_bytes, thumbnail),)
    shown = load_shown(
        example.images[0], example.size, short=_SHORT_THUMBNAIL if thumbnail else SHORT
    )
    references = objects(example.reference)
    drawn = [(caption, objects(answer.value)) for caption, answer in answers(example)]
    drawn = drawn[:1] if thumbnail else [("reference", references), *drawn]
    return tuple(
        _picture(
            draw_instances(
                shown,
                instances,
                size=example.size,
                ghosts=references if caption != "reference" else (),
            ),
            most_bytes,
            caption=caption,
            note=_counted(instances),
            alt=f"{caption} on {Path(example.images[0]).name}: {_named(instances)}",
        )
        for caption, instances in drawn
    )


def _plain(example: Judged, most_bytes: int, thumbnail: bool) -> Picture:
    """Show what the model saw; several images in a row."""
    count, name = len(example.images), Path(example.images[0]).name
    return _picture(
        load_row(example.images, example.size, _SHORT_THUMBNAIL if thumbnail else _SHORT_ALONE),
        most_bytes,
        caption="",
        note="",
        alt=f"Input image {name}" if count == 1 else f"{count} input images, the first {name}",
    )


def _counted(instances: tuple[Instance, ...]) -> str:
    return "1 object" if len(instances) == 1 else f"{len(instances) or 'no'} objects"


def _named(instances: tuple[Instance, ...]) -> str:
    return ", ".join(instance.label for instance in instances) or "no objects"


def _picture(image: "Image", most_bytes: int, *, caption: str, note: str, alt: str) -> Picture:
    encoded = _encoded(image)
    while len(encoded) > most_bytes and max(image.size) > _SMALLEST:
        shrunk = min(0.8, 0.95 * (most_bytes / len(encoded)) ** 0.5)
        image = image.resize(
            (max(1, round(image.width * shrunk)), max(1, round(image.height * shrunk)))
        )
        encoded = _encoded(image)
    source = f"data:image/webp;base64,{base64.b64encode(encoded).decode('ascii')}"
    return Picture(caption, note, source, alt, image.width, image.height)


def _encoded(image: "Image") -> bytes:
    file = io.BytesIO()
    image.save(file, "WEBP", quality=_QUALITY, method=2)
    return file.getvalue()
