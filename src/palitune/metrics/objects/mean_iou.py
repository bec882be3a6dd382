"""Mean IoU of the objects of one answer: a reward that grows below IoU .5 too.

Every object counts once, with the IoU of its match of the same label, or 0 without a match. The
value is 1 only if all objects are predicted exactly and none is invented.
"""

from palitune.metrics.base import predicted_objects, reference_objects
from palitune.metrics.objects.matching import box_overlaps, false_positives, match_pairs
from palitune.records import Example, Prediction


def mean_iou(prediction: Prediction, example: Example, *, masks: bool = False) -> float:
    """Return the mean IoU in [0, 1] of boxes or masks; crowds are ignored as in `count_matches`."""
    reference, predicted = reference_objects(example), predicted_objects(prediction)
    overlaps = box_overlaps(predicted, reference)
    if masks:
        from palitune.metrics.objects.segmentation import mask_overlaps

        overlaps = mask_overlaps(predicted, reference)
    if prediction.value is None:
        return 0.0
    matches = match_pairs(predicted, reference, overlaps, min_iou=0.0)
    num_objects = sum(not truth.crowd for truth in reference)
    num_objects += len(false_positives(predicted, reference, overlaps, matches))
    total = sum(overlaps[p][r] for r, p in matches.items())
    return total / num_objects if num_objects else 1.0
