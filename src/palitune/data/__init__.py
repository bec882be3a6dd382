"""From annotation files to batches: sources, mixtures, examples on disk, images.

Importing this package is cheap; what needs Pillow or Arrow is imported by the first call.
"""

from typing import TYPE_CHECKING

from palitune.data.augmentation import AUGMENTATIONS, Augmentation
from palitune.data.sources import SOURCES, Data, Source
from palitune.lazily import lazily
from palitune.tasks import Task

if TYPE_CHECKING:
    from palitune.data.asked_images import AskedImages, ask_images, find_images
    from palitune.data.dataset import Concatenated, Part
    from palitune.data.inspection import Inspected, Look, inspect
    from palitune.data.inspection.findings import findings

__getattr__ = lazily(
    __name__,
    {
        "AskedImages": "asked_images",
        "ask_images": "asked_images",
        "find_images": "asked_images",
        "Inspected": "inspection",
        "Look": "inspection",
        "inspect": "inspection",
        "findings": "inspection.findings",
    },
)
"""Of what single recipes need."""


def load(
    data: Data, task: Task | None, split: str | None, *, unanswered: bool = False
) -> "list[Part]":
    """Return the parts of a data set for one split, none where there is no split.

    See `palitune.data.dataset.load`.
    """
    from palitune.data import dataset

    return [] if split is None else dataset.load(data, task, split, unanswered=unanswered)


def load_training(data: Data, task: Task | None, split: str, seed: int) -> "list[Part]":
    """Return the parts that are learned from; see `palitune.data.dataset.load_training`."""
    from palitune.data import dataset

    return dataset.load_training(data, task, split, seed)


def concatenate(parts: "list[Part]") -> "Concatenated":
    """Return the training set out of all parts; see `palitune.data.dataset.concatenate`."""
    from palitune.data import dataset

    return dataset.concatenate(parts)


__all__ = [
    "AUGMENTATIONS",
    "SOURCES",
    "AskedImages",
    "Augmentation",
    "Data",
    "Inspected",
    "Look",
    "Source",
    "ask_images",
    "concatenate",
    "find_images",
    "findings",
    "inspect",
    "load",
    "load_training",
]
