"""Duplicate detections: objects of one label whose boxes overlap by an IoU threshold or more.

These are the objects that class-wise non-maximum suppression removes: of two, the one with the
higher score is kept, the first one if the scores are equal. Boxes are compared, also for masks.
"""

from collections.abc import Sequence

import numpy as np

from palitune.metrics.base import FloatArray
from palitune.records import Instance


def find_duplicates(instances: Sequence[Instance], min_iou: float) -> list[bool]:
    """Return for each object whether it is a duplicate; a missing score counts as 1."""
    corners = np.array([instance.box for instance in instances], float).reshape(-1, 4)
    scores = np.array([1.0 if i.score is None else i.score for i in instances])
    _, labels = np.unique([instance.label for instance in instances], return_inverse=True)
    is_duplicate = np.zeros(len(instances), dtype=bool)
    kept: list[int] = []
    for index in np.argsort(-scores, kind="stable"):
        same_label = [other for other in kept if labels[other] == labels[index]]
        is_duplicate[index] = (_ious(corners[index], corners[same_label]) >= min_iou).any()
        if not is_duplicate[index]:
            kept.append(int(index))
    return is_duplicate.tolist()


def _ious(box: FloatArray, others: FloatArray) -> FloatArray:
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = sides.clip(min=0).prod(axis=1)
    areas = (others[:, 2:] - others[:, :2]).prod(axis=1)
    union = (box[2:] - box[:2]).prod() + areas - shared
    ious: FloatArray = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return ious
