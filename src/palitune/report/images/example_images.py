"""Images of an evaluated example on a page: the inputs, or the boxes drawn side by side."""

from pathlib import Path

from palitune.report.images.drawing import MAX_SHORT_SIDE, draw_instances, load_for_display
from palitune.report.images.image_grid import load_image_grid
from palitune.report.images.inline import InlineImage, encode_image, join_labels
from palitune.report.run_reader import EvaluatedExample, ScoredPrediction, get_instances

_MAX_SHORT_SIDE = 700
"""Shorter side in pixels of an image without boxes: its text must be legible when enlarged."""
_THUMBNAIL_SHORT_SIDE = 180


def captioned_predictions(example: EvaluatedExample) -> list[tuple[str, ScoredPrediction]]:
    """Return the predictions of an example as `prediction`, or as `after` and `before`."""
    if example.before is None:
        return [("prediction", example.after)]
    return [("after", example.after), ("before", example.before)]


def count_images(example: EvaluatedExample, *, thumbnail: bool) -> int:
    """Return the number of images that `draw_example` returns."""
    if not example.images:
        return 0
    if thumbnail:
        return 1
    return 1 + len(captioned_predictions(example)) if example.draws_boxes else 1


def draw_example(
    example: EvaluatedExample, max_bytes: int, *, thumbnail: bool
) -> tuple[InlineImage, ...]:
    """Draw an example in images of at most `max_bytes` each.

    A thumbnail is one small image; for boxes, it shows the prediction over the reference.
    """
    if not example.images:
        return ()
    if not example.draws_boxes:
        return (_draw_inputs(example, max_bytes, thumbnail),)
    image = load_for_display(
        example.images[0],
        example.size,
        max_short_side=_THUMBNAIL_SHORT_SIDE if thumbnail else MAX_SHORT_SIDE,
    )
    name = Path(example.images[0]).name
    references = get_instances(example.reference)
    sides = [(key, get_instances(side.value)) for key, side in captioned_predictions(example)]
    sides = sides[:1] if thumbnail else [("reference", references), *sides]
    return tuple(
        encode_image(
            draw_instances(
                image,
                instances,
                size=example.size,
                references=references if caption != "reference" else (),
            ),
            f"{caption} on {name}: {join_labels(instances)}",
            caption=caption,
            note="1 object" if len(instances) == 1 else f"{len(instances) or 'no'} objects",
            max_bytes=max_bytes,
        )
        for caption, instances in sides
    )


def _draw_inputs(example: EvaluatedExample, max_bytes: int, thumbnail: bool) -> InlineImage:
    """Return the input of the model; several images are placed in a grid."""
    count, name = len(example.images), Path(example.images[0]).name
    side = _THUMBNAIL_SHORT_SIDE if thumbnail else _MAX_SHORT_SIDE
    return encode_image(
        load_image_grid(example.images, example.size, side),
        f"Input image {name}" if count == 1 else f"{count} input images, the first {name}",
        max_bytes=max_bytes,
    )
