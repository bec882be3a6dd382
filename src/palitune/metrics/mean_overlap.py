"""How well the objects of one answer lie: the mean IoU, where counting from IoU .5 on sees nothing.

Every object counts once: with the best of the same label on the other side, and as 0 where there is
none. It is 1 only where all objects are found exactly and none is invented.
"""

from palitune.examples import Example, Prediction
from palitune.metrics.base import objects_of
from palitune.metrics.matching import box_overlaps, excused, pairs


def mean_iou(prediction: Prediction, example: Example, *, masks: bool = False) -> float:
    """Return the mean IoU in [0, 1] of boxes, or of masks; crowds as in `metrics.matching`."""
    reference = objects_of(example.reference, f"example {example.id}")
    predicted = objects_of(prediction.value or (), f"prediction {prediction.id}")
    overlaps = box_overlaps(predicted, reference)
    if masks:
        from palitune.metrics.segmentation_iou import mask_overlaps

        overlaps = mask_overlaps(predicted, reference)
    if prediction.value is None:
        return 0.0
    found = pairs(predicted, reference, overlaps, least=0.0)
    invented = sum(
        not excused(guess, reference, overlaps[left])
        for left, guess in enumerate(predicted)
        if left not in found.values()
    )
    objects = sum(not truth.crowd for truth in reference) + invented
    shared = sum(overlaps[left][right] for right, left in found.items())
    return shared / objects if objects else 1.0
