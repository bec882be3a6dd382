"""Mean IoU of semantic segmentation over a whole set of label maps, as mmsegmentation counts it.

Pixels of all images go into one confusion table. A class that is in no reference and no prediction
has no IoU and is left out of the mean (mmsegmentation's rule; the scripts of ADE20K's authors count
it as 0, which makes the mean much lower). Pixels that the reference ignores count nowhere.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LabelMap = npt.NDArray[np.integer]
"""(height, width), class numbers from 0."""

IGNORE_LABEL = 255


@dataclass(frozen=True)
class SemanticIoU:
    """What a set of label maps scores; NaN where nothing is defined."""

    mean_iou: float
    mean_accuracy: float
    """Mean over classes of the share of their reference pixels that was found."""
    pixel_accuracy: float
    class_iou: tuple[float, ...]
    """By class; NaN where it is neither in a reference nor in a prediction."""


def semantic_iou(
    predictions: Iterable[LabelMap],
    references: Iterable[LabelMap],
    num_classes: int,
    *,
    ignore_label: int = IGNORE_LABEL,
    reduce_zero_label: bool = False,
) -> SemanticIoU:
    """Return IoU and accuracy of `classes` classes over pairs of label maps of equal size.

    `zero_is_ignored` is mmsegmentation's `reduce_zero_label`: reference label 0 is ignored and the
    others count from 1, as in ADE20K's files; predictions count from 0.
    Raises ValueError where a pair differs in size or a label is no class.
    """
    table = np.zeros((num_classes, num_classes), np.int64)
    for number, (predicted, reference) in enumerate(zip(predictions, references, strict=True)):
        table += _confusion_matrix(
            predicted, reference, num_classes, ignore_label, reduce_zero_label, number
        )
    shared = table.diagonal().astype(float)
    in_reference, in_prediction = table.sum(axis=1), table.sum(axis=0)
    with np.errstate(invalid="ignore"):
        iou = shared / (in_reference + in_prediction - shared)
        accuracy = shared / in_reference
    return SemanticIoU(
        mean_iou=_nan_mean(iou),
        mean_accuracy=_nan_mean(accuracy),
        pixel_accuracy=float(shared.sum() / table.sum()) if table.any() else math.nan,
        class_iou=tuple(iou.tolist()),
    )


def _confusion_matrix(
    predicted: LabelMap,
    reference: LabelMap,
    num_classes: int,
    ignore_label: int,
    reduce_zero_label: bool,
    index: int,
) -> npt.NDArray[np.int64]:
    """Count the pixels of one pair, (reference class, predicted class)."""
    if predicted.shape != reference.shape:
        raise ValueError(
            f"label map {index}: the prediction is {predicted.shape}, the reference "
            f"{reference.shape}; resize the prediction to the reference"
        )
    wanted = reference.astype(np.int64)
    counted = wanted != ignore_label
    if reduce_zero_label:
        counted &= wanted != 0
        wanted = wanted - 1
    truth, guess = wanted[counted], predicted[counted].astype(np.int64)
    for name, labels in (("reference", truth), ("prediction", guess)):
        if labels.size and not 0 <= labels.min() <= labels.max() < num_classes:
            raise ValueError(
                f"label map {index}: the {name} has a label outside 0 to {num_classes - 1}; "
                "give the number of classes, and the label that is ignored"
            )
    pairs = np.bincount(truth * num_classes + guess, minlength=num_classes * num_classes)
    return pairs.reshape(num_classes, num_classes)


def _nan_mean(values: npt.NDArray[np.float64]) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else math.nan
