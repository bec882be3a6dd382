"""Samples of the training split as augmentation shows them to the model."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from palitune.data.images.augmentation import Augmentation
from palitune.data.images.transforms import ImageTransform
from palitune.records import Example, Row
from palitune.tasks import Task

NUM_VIEWS = 3
"""Views of each sample."""


@dataclass(frozen=True)
class AugmentedView:
    """One visit of a sample."""

    transform: ImageTransform
    """Of the first image."""
    example: Example
    """With the texts and objects of the transformed image."""
    num_dropped: int
    """Objects that were cropped away."""


@dataclass(frozen=True)
class AugmentedSample:
    """A sample with several augmented views; without a view its images are never changed."""

    example: Example
    views: tuple[AugmentedView, ...]


def augment_samples(
    samples: Sequence[tuple[Row, Example]], task: Task, augmentation: Augmentation, seed: int
) -> list[AugmentedSample]:
    """Return the samples with images, each with views as in training.

    Args:
        samples: Rows with the examples that the task wrote from them.
        task: The task.
        augmentation: The augmentation of the training.
        seed: Seed of the views.
    """
    if not augmentation.is_active():
        return []
    return [
        AugmentedSample(example, tuple(_views(row, example, task, augmentation, seed)))
        for row, example in samples
        if example.images
    ]


def _views(
    row: Row, example: Example, task: Task, augmentation: Augmentation, seed: int
) -> Iterator[AugmentedView]:
    for visit in range(NUM_VIEWS):
        rng = Random(f"view {seed}:{visit}:{example.id}")
        transforms, transformed = augmentation.sample(example, row, task, rng)
        if transforms:
            changed = example if transformed.row is row else task.example(transformed.row)
            yield AugmentedView(transforms[0], changed, transformed.num_dropped)
