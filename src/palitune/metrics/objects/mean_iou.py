"""How well the objects of one answer lie: the mean IoU, where counting from IoU .5 on sees nothing.

Every object counts once: with the best of the same label on the other side, and as 0 where there is
none. It is 1 only where all objects are found exactly and none is invented.
"""

from palitune.metrics.base import require_objects
from palitune.metrics.objects.matching import box_overlaps, in_crowd, match_pairs
from palitune.records import Example, Prediction


def mean_iou(prediction: Prediction, example: Example, *, masks: bool = False) -> float:
    """Return the mean IoU in [0, 1] of boxes, or of masks; crowds as in `metrics.matching`."""
    reference = require_objects(example.reference, f"example {example.id}")
    predicted = require_objects(prediction.value or (), f"prediction {prediction.id}")
    overlaps = box_overlaps(predicted, reference)
    if masks:
        from palitune.metrics.objects.segmentation import mask_overlaps

        overlaps = mask_overlaps(predicted, reference)
    if prediction.value is None:
        return 0.0
    found = match_pairs(predicted, reference, overlaps, min_iou=0.0)
    invented = sum(
        not in_crowd(guess, reference, overlaps[left])
        for left, guess in enumerate(predicted)
        if left not in found.values()
    )
    objects = sum(not truth.crowd for truth in reference) + invented
    shared = sum(overlaps[left][right] for right, left in found.items())
    return shared / objects if objects else 1.0
