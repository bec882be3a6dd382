"""The training set: examples with the target and the image transforms of each visit."""

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from palitune.data.images.augmentation import Augmentation
from palitune.data.images.transforms import Affine, ImageTransform, TransformedRow
from palitune.data.mixture_schedule import MixtureSchedule
from palitune.records import Example
from palitune.tasks import Task

if TYPE_CHECKING:
    from palitune.data.dataset import ConcatDataset


class TargetSampling(Enum):
    """Choice of the target if an example has several."""

    sample = "sample"
    """A random one."""
    cycle = "cycle"
    """The next of a shuffled list on every visit, so that each is used equally often; the list is
    shuffled again after its end. Equal answers of several annotators are separate entries:
    big_vision's `choice_no_replacement`."""
    majority = "majority"
    """The most frequent one; if several are, the first of them."""
    first = "first"
    all = "all"
    """All of them in one row that shares image and prefix: equal to a row each, and faster."""


@dataclass(frozen=True)
class TrainingSample:
    """One example with its chosen target and augmentation."""

    example: Example
    suffix: str
    transforms: tuple[ImageTransform, ...] = ()
    """One for each image; empty: no image is transformed."""
    other_suffixes: tuple[str, ...] = ()
    """Further targets that are trained at the same time."""

    @property
    def suffixes(self) -> tuple[str, ...]:
        return (self.suffix, *self.other_suffixes)


class TrainingSet:
    """Training samples of the current epoch, by index.

    A sample index stands for an example and the number of its earlier visits. Target and
    augmentation of a sample depend on these two and the seed alone, so a resumed run gets the
    samples that the interrupted run would have had.

    An index below the number of examples is the only visit of that example in the epoch, and the
    epoch is the number of its earlier visits. In a weighted mixture an epoch visits an example
    several times or not at all; the index is then
    `example index + number of examples * (earlier visits + 1)`.

    Args:
        examples: The examples.
        target_sampling: Choice of the target if an example has several.
        seed: Seed of target choice and augmentation.
        tasks: Tasks by component, which may randomize an example on each visit.
        mixture_schedule: The visits of each epoch of a weighted mixture.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        target_sampling: TargetSampling,
        seed: int,
        tasks: Mapping[str, Task] | None = None,
        mixture_schedule: MixtureSchedule | None = None,
    ) -> None:
        self.examples, self.target_sampling, self.seed = examples, target_sampling, seed
        self.epoch = 0
        self.tasks = tasks or {}
        self.mixture_schedule = mixture_schedule

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> TrainingSample:
        example_index, repeat = self.decode_index(index)
        return self._build_sample(self.examples[example_index], example_index, repeat)

    def __iter__(self) -> Iterator[TrainingSample]:
        return (self[index] for index in range(len(self)))

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def epoch_indices(self) -> list[list[int]]:
        """Return the sample indices of the epoch by component; one list without a mixture."""
        if self.mixture_schedule is None:
            return [list(range(len(self)))]
        components = self.mixture_schedule.epoch_visits(self.epoch)
        return [[self.encode_index(*visit) for visit in visits] for visits in components]

    def encode_index(self, example_index: int, repeat: int) -> int:
        """Return the sample index of a visit after `repeat` earlier ones."""
        return example_index + len(self.examples) * (repeat + 1)

    def decode_index(self, index: int) -> tuple[int, int]:
        """Return the example index and the number of its earlier visits."""
        visits, example_index = divmod(index, len(self.examples))
        return example_index, visits - 1 if visits else self.epoch

    def example_index(self, index: int) -> int:
        return self.decode_index(index)[0]

    def component_index(self, index: int) -> int:
        """Return the number of a sample's component in the weighted mixture."""
        assert self.mixture_schedule is not None
        return self.mixture_schedule.component_of(self.example_index(index))

    def augmentation_summary(self, indices: Sequence[int]) -> list[str]:
        """Return a sentence about the augmentation of some samples; none without augmentation."""
        return []

    def _build_sample(
        self,
        example: Example,
        example_index: int,
        repeat: int,
        transforms: tuple[ImageTransform, ...] = (),
    ) -> TrainingSample:
        if (task := self.tasks.get(example.component)) is not None:
            rng = random.Random(f"redrawn:{self.seed}:{repeat}:{example_index}")
            example = task.randomize(example, rng)
        if self.target_sampling is TargetSampling.all:
            return TrainingSample(example, example.suffixes[0], transforms, example.suffixes[1:])
        target = self._choose_target(example.suffixes, example_index, repeat)
        return TrainingSample(example, target, transforms)

    def _choose_target(self, suffixes: tuple[str, ...], example_index: int, repeat: int) -> str:
        if self.target_sampling is TargetSampling.first or len(suffixes) == 1:
            return suffixes[0]
        if self.target_sampling is TargetSampling.sample:
            return random.Random(f"{self.seed}:{repeat}:{example_index}").choice(suffixes)
        if self.target_sampling is TargetSampling.majority:
            return Counter(suffixes).most_common(1)[0][0]
        order = list(suffixes)
        cycle, position = divmod(repeat, len(order))
        random.Random(f"{self.seed}:{example_index}:{cycle}").shuffle(order)
        return order[position]


class AugmentedTrainingSet(TrainingSet):
    """A training set with image augmentation; `build_training_set` documents the arguments."""

    def __init__(
        self,
        examples: "ConcatDataset",
        target_sampling: TargetSampling,
        seed: int,
        augmentation: Augmentation,
        *,
        share_per_image: bool = False,
    ) -> None:
        schedule = examples.mixture_schedule(seed)
        super().__init__(examples, target_sampling, seed, examples.tasks, schedule)
        self.examples: ConcatDataset = examples
        self.augmentation = augmentation
        self.share_per_image = share_per_image

    def __getitem__(self, index: int) -> TrainingSample:
        example, transforms, _ = self.augmented_example(index)
        return self._build_sample(example, *self.decode_index(index), transforms)

    def augmented_example(
        self, index: int
    ) -> tuple[Example, tuple[ImageTransform, ...], TransformedRow]:
        """Return a sample's example, transforms and row; the task rewrites a changed row."""
        example_index, repeat = self.decode_index(index)
        dataset, position, copy = self.examples.locate(example_index)
        example, row = dataset.examples[position], dataset.examples.row(position)
        key = str(example_index)
        if self.share_per_image:
            key = f"{copy} of {[Path(image).name for image in example.images]}"
            key += f" {example.tile}" if example.tile else ""
        rng = random.Random(f"view {self.seed}:{repeat}:{key}")
        transforms, transformed = self.augmentation.sample(example, row, dataset.task, rng)
        if transformed.row is not row:
            example = replace(dataset.task.example(transformed.row), component=dataset.name)
        return example, transforms, transformed

    def augmentation_summary(self, indices: Sequence[int]) -> list[str]:
        samples = [self.augmented_example(index) for index in indices]
        views = [transforms for _, transforms, _ in samples]
        flipped = sum(any(view.hflip for view in each) for each in views)
        cropped = sum(any(view.crop_box is not None for view in each) for each in views)
        warped = sum(any(view.affine != Affine() for view in each) for each in views)
        num_dropped = sum(transformed.num_dropped for _, _, transformed in samples)
        return [
            f"augmentation: of {len(samples)} samples, {flipped} are flipped, {cropped} are "
            f"cropped or padded, {warped} are rotated or stretched; {num_dropped} objects are "
            "cropped away"
        ]


def build_training_set(
    examples: "ConcatDataset",
    target_sampling: TargetSampling,
    seed: int,
    augmentation: Augmentation,
    *,
    share_per_image: bool = False,
) -> TrainingSet:
    """Return a training set, an augmented one if the augmentation is active.

    Args:
        examples: The examples with their rows and tasks.
        target_sampling: Choice of the target if an example has several.
        seed: Seed of target choice and augmentation.
        augmentation: The augmentation.
        share_per_image: Transform an image equally for all of its prompts, so that a batch encodes
            it once.

    Raises:
        DataError: The weight of a component gives it less than one sample per epoch.
    """
    if augmentation.is_active():
        return AugmentedTrainingSet(
            examples, target_sampling, seed, augmentation, share_per_image=share_per_image
        )
    schedule = examples.mixture_schedule(seed)
    return TrainingSet(examples, target_sampling, seed, examples.tasks, schedule)
