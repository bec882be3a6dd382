"""What each visit of an example trains on: which target, and which view of the image."""

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from palitune.data.images.augmentation import Augmentation
from palitune.data.images.transforms import Affine, ImageTransform, TransformedRow
from palitune.data.mixing import MixtureSchedule, decode_sample_index
from palitune.records import Example
from palitune.tasks import Task

if TYPE_CHECKING:
    from palitune.data.dataset import ConcatDataset


class TargetSampling(Enum):
    """Which of several targets one visit of an example trains on."""

    sample = "sample"
    """One at random."""
    cycle = "cycle"
    """The next of a shuffled list on every visit, so that each is seen equally often; the list is
    shuffled anew after its end. Of ten annotators' answers, equal ones are seen as often as given:
    big_vision's `choice_no_replacement`."""
    majority = "majority"
    """The most frequent one; of several, the one that is listed first."""
    first = "first"
    all = "all"
    """Every one, in one row that shares image and prefix: as exact as a row each, and faster."""


@dataclass(frozen=True)
class TrainingSample:
    """One example, as it is true of a view, with the target that this visit trains on."""

    example: Example
    suffix: str
    transforms: tuple[ImageTransform, ...] = ()
    """Of each of its images; empty: all are seen as they are."""
    other_suffixes: tuple[str, ...] = ()
    """Further targets that it trains on at once."""

    @property
    def suffixes(self) -> tuple[str, ...]:
        return (self.suffix, *self.other_suffixes)


class TrainingSet:
    """The training set as one epoch sees it; which target and view a visit takes depends on nothing
    else than seed, example and how often it was visited before, so a resumed run sees what the
    interrupted one would have.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        target_sampling: TargetSampling,
        seed: int,
        tasks: Mapping[str, Task] | None = None,
        mixture_schedule: MixtureSchedule | None = None,
    ) -> None:
        """`tasks`, by part, may write an example anew on every visit; see `Task.redrawn`.

        `proportions`: which visits an epoch makes where the parts are weighted; else one to each.
        """
        self.examples, self.target_sampling, self.seed, self.epoch = (
            examples,
            target_sampling,
            seed,
            0,
        )
        self.tasks = tasks or {}
        self.mixture_schedule = mixture_schedule

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> TrainingSample:
        place, turn = self.decode_index(index)
        return self._build_sample(self.examples[place], place, turn)

    def __iter__(self) -> Iterator[TrainingSample]:
        return (self[index] for index in range(len(self)))

    def decode_index(self, index: int) -> tuple[int, int]:
        """Return which example an index means, and how often it was visited before."""
        return decode_sample_index(index, len(self.examples), self.epoch)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def augmentation_summary(self, indices: Sequence[int]) -> list[str]:
        """Say how the visits to some examples differ from the examples, a sentence each."""
        return []

    def _rewrite_example(self, example: Example, example_index: int, repeat: int) -> Example:
        task = self.tasks.get(example.component)
        chance = random.Random(f"redrawn:{self.seed}:{repeat}:{example_index}")
        return example if task is None else task.randomize(example, chance)

    def _build_sample(
        self,
        example: Example,
        example_index: int,
        repeat: int,
        transforms: tuple[ImageTransform, ...] = (),
    ) -> TrainingSample:
        example = self._rewrite_example(example, example_index, repeat)
        if self.target_sampling is TargetSampling.all:
            return TrainingSample(example, example.suffixes[0], transforms, example.suffixes[1:])
        return TrainingSample(
            example, self._choose_target(example, example_index, repeat), transforms
        )

    def _choose_target(self, example: Example, example_index: int, repeat: int) -> str:
        if self.target_sampling is TargetSampling.first or len(example.suffixes) == 1:
            return example.suffixes[0]
        if self.target_sampling is TargetSampling.sample:
            return random.Random(f"{self.seed}:{repeat}:{example_index}").choice(example.suffixes)
        if self.target_sampling is TargetSampling.majority:
            return Counter(example.suffixes).most_common(1)[0][0]
        order = list(example.suffixes)
        cycle, next_one = divmod(repeat, len(order))
        random.Random(f"{self.seed}:{example_index}:{cycle}").shuffle(order)
        return order[next_one]


class AugmentedTrainingSet(TrainingSet):
    """The training set as an augmentation shows it."""

    def __init__(
        self,
        examples: "ConcatDataset",
        target_sampling: TargetSampling,
        seed: int,
        augmentation: Augmentation,
        *,
        share_per_image: bool = False,
    ) -> None:
        """`by_image`: the prompts of an image share what is drawn; its repeats differ."""
        super().__init__(
            examples, target_sampling, seed, examples.tasks, examples.mixture_schedule(seed)
        )
        self.examples: ConcatDataset = examples
        self.augmentation = augmentation
        self.share_per_image = share_per_image

    def __getitem__(self, index: int) -> TrainingSample:
        example, views, _ = self.augmented_example(index)
        return self._build_sample(example, *self.decode_index(index), views)

    def augmented_example(
        self, index: int
    ) -> tuple[Example, tuple[ImageTransform, ...], TransformedRow]:
        """Return what a visit sees: prompt and targets written anew where anything has moved."""
        place, turn = self.decode_index(index)
        part, position, copy = self.examples.locate(place)
        example, row = part.examples[position], part.examples.row(position)
        whose = str(place)
        if self.share_per_image:
            whose = f"{copy} of {[Path(image).name for image in example.images]}"
        chance = random.Random(f"view {self.seed}:{turn}:{whose}")
        views, seen = self.augmentation.sample(example, row, part.task, chance)
        if seen.row is not row:
            example = replace(part.task.example(seen.row), component=part.name)
        return example, views, seen

    def augmentation_summary(self, indices: Sequence[int]) -> list[str]:
        looks = [self.augmented_example(index) for index in indices]
        mirrored = sum(any(view.hflip for view in views) for _, views, _ in looks)
        windows = sum(any(view.crop_box is not None for view in views) for _, views, _ in looks)
        warped = sum(any(view.affine != Affine() for view in views) for _, views, _ in looks)
        cut = sum(seen.num_dropped for _, _, seen in looks)
        return [
            f"augmentation: of {len(looks)} visits {mirrored} are mirrored, {windows} see the "
            f"image cropped or padded, {warped} see it turned or stretched; "
            f"{cut} objects are cut away"
        ]


def build_training_set(
    examples: "ConcatDataset",
    target_sampling: TargetSampling,
    seed: int,
    augmentation: Augmentation,
    *,
    share_per_image: bool = False,
) -> TrainingSet:
    """Return the visits to a training set, augmented where that is asked for.

    `by_image`: the prompts of an image then see it in the same way, so that those of one batch
    share its encoding.
    """
    if not augmentation.is_active():
        return TrainingSet(
            examples, target_sampling, seed, examples.tasks, examples.mixture_schedule(seed)
        )
    return AugmentedTrainingSet(
        examples, target_sampling, seed, augmentation, share_per_image=share_per_image
    )
