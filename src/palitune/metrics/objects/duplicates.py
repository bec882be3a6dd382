"""Objects that a model names twice: of one label, and overlapping by an IoU of `least` or more.

What non-maximum suppression would remove, class by class: the surer one of two is kept, of equally
sure ones the first. Boxes are compared, of masks too.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from palitune.records import Instance


def find_duplicates(instances: Sequence[Instance], min_iou: float) -> list[bool]:
    """Tell of each object whether it repeats a surer one; one without a score counts as sure."""
    corners = np.array([instance.box for instance in instances], float).reshape(-1, 4)
    scores = np.array([1.0 if i.score is None else i.score for i in instances])
    _, labels = np.unique([instance.label for instance in instances], return_inverse=True)
    repeated = np.zeros(len(instances), dtype=bool)
    kept: list[int] = []
    for index in np.argsort(-scores, kind="stable"):
        same = [other for other in kept if labels[other] == labels[index]]
        repeated[index] = bool((_iou_with(corners[index], corners[same]) >= min_iou).any())
        if not repeated[index]:
            kept.append(int(index))
    return repeated.tolist()


def _iou_with(
    box: npt.NDArray[np.float64], others: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = sides.clip(min=0).prod(axis=1)
    areas = (others[:, 2:] - others[:, :2]).prod(axis=1)
    union = (box[2:] - box[:2]).prod() + areas - shared
    overlaps: npt.NDArray[np.float64] = np.divide(
        shared, union, out=np.zeros_like(shared), where=union > 0
    )
    return overlaps
