"""Image augmentation: the random transforms of a training sample.

Boxes and masks move with the image, and the task writes prompt and target again, so that both stay
true. A transform that would make them wrong is not applied. Evaluation never augments.
"""

import re
from dataclasses import dataclass, replace
from random import Random
from typing import Annotated, ClassVar

from annotated_types import Ge, Gt, Le, Lt

from palitune.data.images.transforms import (
    Affine,
    ColorJitter,
    CropBox,
    ImageTransform,
    TransformedRow,
    transform_row,
)
from palitune.errors import check_ranges
from palitune.records import Example, Row, Size
from palitune.tasks import Task

# Stems of words that a flip makes wrong, in languages that PaliGemma knows well.
_SIDE_WORDS = re.compile(
    r"\b(?:left|right|clockwise|anti-?clockwise|counter-?clockwise|links|linke|rechts|rechte|gauche|"
    r"droite|izquierd|derech|esquerd|direit|sinistr|destr[ao])|左|右",
    re.IGNORECASE,
)
_MAX_ASPECT_CHANGE = 4 / 3
"""Largest factor between the aspect ratios of a crop and of the image."""


@dataclass(kw_only=True)
class Augmentation:
    """Base of all augmentations."""

    name: ClassVar[str]

    def is_active(self) -> bool:
        """Return whether a sample can differ from the unchanged example."""
        return False

    def sample(
        self, example: Example, row: Row, task: Task, rng: Random
    ) -> tuple[tuple[ImageTransform, ...], TransformedRow]:
        """Sample the transforms of an example.

        Args:
            example: The example without augmentation.
            row: The row that the task wrote it from.
            task: The task, which allows or forbids flips and crops.
            rng: Source of all random choices.

        Returns:
            A transform per image (none: no image is changed), and the transformed row.
        """
        return (), TransformedRow(row, 0)


@dataclass(kw_only=True)
class NoAugmentation(Augmentation):
    """No augmentation, as in the transfers of PaliGemma's report."""

    name: ClassVar[str] = "none"


@dataclass(kw_only=True)
class ColorJitterAugmentation(Augmentation):
    """Color jitter, which is valid for every task."""

    brightness: Annotated[float, Ge(0), Le(1)] = 0.2
    """Largest difference of the brightness factor from 1."""
    contrast: Annotated[float, Ge(0), Le(1)] = 0.2
    """Largest difference of the contrast factor from 1."""
    saturation: Annotated[float, Ge(0), Le(1)] = 0.2
    """Largest difference of the saturation factor from 1."""
    hue: Annotated[float, Ge(0), Le(0.5)] = 0.02
    """Largest hue shift, as a fraction of the color circle."""

    def __post_init__(self) -> None:
        check_ranges(self, "augmentation")

    def is_active(self) -> bool:
        return True

    def sample_color_jitter(self, rng: Random) -> ColorJitter:
        brightness, contrast, saturation = (
            1 + rng.uniform(-most, most)
            for most in (self.brightness, self.contrast, self.saturation)
        )
        return ColorJitter(brightness, contrast, saturation, rng.uniform(-self.hue, self.hue))


@dataclass(kw_only=True)
class GeometricAugmentation(ColorJitterAugmentation):
    """Horizontal flips, crops, padding and color jitter."""

    name: ClassVar[str] = "light"

    hflip_prob: Annotated[float, Ge(0), Le(1)] = 0.5
    """Probability of a horizontal flip, if the task reads no text and no word means left or
    right."""
    crop_prob: Annotated[float, Ge(0), Le(1)] = 0.5
    """Probability of a random crop, if the targets are the boxes in the image."""
    crop_area: Annotated[float, Gt(0), Le(1)] = 0.5
    """Smallest area of a crop, as a fraction of the image."""
    min_visible: Annotated[float, Gt(0), Le(1)] = 0.5
    """Fraction of an object's mask (without a mask: of its box) that must be inside the crop;
    other objects are dropped."""
    pad_prob: Annotated[float, Ge(0), Le(1)] = 0.0
    """Probability of padding with gray to a square, which keeps the aspect ratio."""
    square_crop_prob: Annotated[float, Ge(0), Le(1)] = 0.0
    """Probability of a random square as high or wide as the image, which keeps the aspect
    ratio."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if (total := self.crop_prob + self.pad_prob + self.square_crop_prob) > 1:
            raise ValueError(
                "augmentation: the sum of crop_prob, pad_prob and square_crop_prob must be at most "
                f"1, got {total:g}. Lower one of them."
            )

    def sample(
        self, example: Example, row: Row, task: Task, rng: Random
    ) -> tuple[tuple[ImageTransform, ...], TransformedRow]:
        jitters = [self.sample_color_jitter(rng) for _ in row.images]
        hflip = rng.random() < self.hflip_prob and task.allow_flip
        hflip = hflip and not mentions_left_or_right(example) and not _row_has_loc_tokens(row)
        if len(row.images) > 1:  # they show one scene, so all are flipped or none is
            transforms = tuple(ImageTransform(None, hflip, jitter) for jitter in jitters)
            return transforms, TransformedRow(row, 0)
        transform, transformed = self._sample_single_image(row, task, hflip, jitters[0], rng)
        return (transform,), transformed

    def _sample_single_image(
        self, row: Row, task: Task, hflip: bool, color_jitter: ColorJitter, rng: Random
    ) -> tuple[ImageTransform, TransformedRow]:
        crop_box = self._sample_crop_box(row.size, task, rng)
        if _row_has_loc_tokens(row):
            return ImageTransform(color_jitter=color_jitter), TransformedRow(row, 0)
        transform = ImageTransform(crop_box, hflip, color_jitter)
        transformed = transform_row(row, transform, self.min_visible)
        if transformed.num_dropped and not task.include_in_training(transformed.row):
            transform = ImageTransform(None, hflip, color_jitter)
            transformed = transform_row(row, transform, self.min_visible)
        return transform, transformed

    def _sample_crop_box(self, size: Size, task: Task, rng: Random) -> CropBox | None:
        draw = rng.random()
        if draw < self.crop_prob:
            return random_crop(size, self.crop_area, rng) if task.allow_crop else None
        if size[0] == size[1]:
            return None
        if draw < self.crop_prob + self.pad_prob:
            return _random_crop_box(size, (max(size), max(size)), rng)
        if draw < self.crop_prob + self.pad_prob + self.square_crop_prob and task.allow_crop:
            return _random_crop_box(size, (min(size), min(size)), rng)
        return None


@dataclass(kw_only=True)
class DocumentAugmentation(ColorJitterAugmentation):
    """Rotation, shear, stretch and color jitter, as between hands, cameras and scanners.

    An example with locations in prompt or target keeps its geometry.
    """

    name: ClassVar[str] = "document"

    degrees: Annotated[float, Ge(0), Le(45)] = 8.0
    """Largest rotation in either direction, in degrees."""
    shear: Annotated[float, Ge(0), Le(1)] = 0.2
    """Largest shift of the top to either side, as a fraction of the height."""
    aspect: Annotated[float, Ge(0), Lt(1)] = 0.15
    """Largest relative change of width and height, which change independently."""

    def sample(
        self, example: Example, row: Row, task: Task, rng: Random
    ) -> tuple[tuple[ImageTransform, ...], TransformedRow]:
        transforms = tuple(
            ImageTransform(
                color_jitter=self.sample_color_jitter(rng), affine=self._sample_affine(rng)
            )
            for _ in row.images
        )
        if _example_has_loc_tokens(example):
            transforms = tuple(replace(transform, affine=Affine()) for transform in transforms)
        return transforms, TransformedRow(row, 0)

    def _sample_affine(self, rng: Random) -> Affine:
        ranges = (self.degrees, self.shear, self.aspect, self.aspect)
        degrees, shear, width, height = (rng.uniform(-most, most) for most in ranges)
        return Affine(degrees, shear, 1 + width, 1 + height)


AUGMENTATIONS: dict[str, type[Augmentation]] = {
    augmentation.name: augmentation
    for augmentation in (NoAugmentation, GeometricAugmentation, DocumentAugmentation)
}


def random_crop(size: Size, min_area: float, rng: Random) -> CropBox:
    """Return a random part of an image, at least `min_area` of it except for rounding."""
    width, height = size
    area, aspect = rng.uniform(min_area, 1), _MAX_ASPECT_CHANGE ** rng.uniform(-1, 1)
    width_fraction = min(max((area * aspect) ** 0.5, area), 1.0)
    height_fraction = area / width_fraction
    crop_size = max(round(width_fraction * width), 1), max(round(height_fraction * height), 1)
    return _random_crop_box(size, crop_size, rng)


def mentions_left_or_right(example: Example) -> bool:
    """Return whether prompt or targets contain a word that a flip makes wrong."""
    return any(_SIDE_WORDS.search(text) for text in (example.prefix, *example.suffixes))


def _example_has_loc_tokens(example: Example) -> bool:
    return any("<loc" in text for text in (example.prefix, *example.suffixes))


def _row_has_loc_tokens(row: Row) -> bool:
    """Return whether the data contains location tokens, which cannot follow a transform."""
    return "<loc" in f"{row.prefix}{row.suffix}"


def _random_crop_box(size: Size, crop_size: Size, rng: Random) -> CropBox:
    """Place a crop inside the image or, on a side where the crop is larger, around it."""
    corner = [rng.randint(*sorted((0, s - c))) for s, c in zip(size, crop_size, strict=True)]
    return corner[0], corner[1], corner[0] + crop_size[0], corner[1] + crop_size[1]
