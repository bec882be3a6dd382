"""What training changes about images from visit to visit: chosen here, carried out by `views`.

Boxes and masks move with the image, and the task writes prompt and target anew of what is seen, so
that both stay true; what would not is left where it is. Evaluation never augments.
"""

import re
from dataclasses import dataclass, replace
from random import Random
from typing import ClassVar

from palitune.data.images.transforms import (
    Affine,
    ColorJitter,
    CropBox,
    ImageTransform,
    TransformedRow,
    transform_row,
)
from palitune.records import Example, Row, Size
from palitune.tasks import Task

# Words that a mirror makes wrong, by their stems, in languages that PaliGemma knows well.
_SIDE_WORDS = re.compile(
    r"\b(?:left|right|clockwise|anti-?clockwise|counter-?clockwise|links|linke|rechts|rechte|gauche|"
    r"droite|izquierd|derech|esquerd|direit|sinistr|destr[ao])|左|右",
    re.IGNORECASE,
)
_MAX_ASPECT_CHANGE = 4 / 3
"""Most by which a crop's width over height differs from the image's."""


@dataclass(kw_only=True)
class Augmentation:
    """What a visit sees depends on seed, epoch and place in the training set alone."""

    name: ClassVar[str]

    def is_active(self) -> bool:
        """Tell whether any visit may see anything else than the image as it is."""
        return False

    def sample(
        self, example: Example, row: Row, task: Task, rng: Random
    ) -> tuple[tuple[ImageTransform, ...], TransformedRow]:
        """Choose how a visit sees each image, and give what is then true of the row."""
        return (), TransformedRow(row, 0)


@dataclass(kw_only=True)
class NoAugmentation(Augmentation):
    """Every visit sees the image as it is, as in the transfers that PaliGemma's report tells of."""

    name: ClassVar[str] = "none"


@dataclass(kw_only=True)
class ColorJitterAugmentation(Augmentation):
    """What every augmentation can do, wherever things are."""

    brightness: float = 0.2
    """Most that a factor of brightness differs from 1, in [0, 1]; contrast and saturation too."""
    contrast: float = 0.2
    saturation: float = 0.2
    hue: float = 0.02
    """Most that hues are turned, as a share of the colour circle, in [0, 0.5]."""

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast", "saturation"):
            _check_range(name, getattr(self, name), 0, 1)
        _check_range("hue", self.hue, 0, 0.5)

    def is_active(self) -> bool:
        return True

    def sample_color_jitter(self, rng: Random) -> ColorJitter:
        """Draw how colours are changed."""

        def factor(most: float) -> float:
            return 1 + rng.uniform(-most, most)

        return ColorJitter(
            factor(self.brightness),
            factor(self.contrast),
            factor(self.saturation),
            rng.uniform(-self.hue, self.hue),
        )


@dataclass(kw_only=True)
class GeometricAugmentation(ColorJitterAugmentation):
    """Mirrors, crops and colours; a share is one of visits, in [0, 1]."""

    name: ClassVar[str] = "light"

    hflip_prob: float = 0.5
    """Share that is mirrored: of tasks that read no text, and where no word says left or right."""
    crop_prob: float = 0.5
    """Share that sees a random part of the image: of tasks whose boxes tell what is in it."""
    crop_area: float = 0.5
    """Least share of the image's area that a crop shows, in (0, 1]."""
    min_visible: float = 0.5
    """Least share of an object, in (0, 1], of its mask or else its box, that a crop leaves for the
    object to be written; others are cut away."""
    pad_prob: float = 0.0
    """Share that keeps its aspect: padded with grey to a square, instead of stretched to one."""
    square_crop_prob: float = 0.0
    """Share that keeps its aspect: a random square of the image, as high or wide as it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("hflip_prob", "crop_prob", "pad_prob", "square_crop_prob"):
            _check_range(name, getattr(self, name), 0, 1)
        for name in ("crop_area", "min_visible"):
            _check_range(name, getattr(self, name), 1e-6, 1)
        if self.crop_prob + self.pad_prob + self.square_crop_prob > 1:
            raise ValueError(
                "augmentation: crop_prob, pad_prob and square_crop_prob exclude each other, so that together they "
                f"are at most 1, not {self.crop_prob + self.pad_prob + self.square_crop_prob:g}"
            )

    def sample(
        self, example: Example, row: Row, task: Task, rng: Random
    ) -> tuple[tuple[ImageTransform, ...], TransformedRow]:
        colours = [self.sample_color_jitter(rng) for _ in row.images]
        mirrored = rng.random() < self.hflip_prob and task.allow_flip
        mirrored = mirrored and not mentions_left_or_right(example) and not _row_has_loc_tokens(row)
        if len(row.images) > 1:  # of one scene, so that all are mirrored or none is
            return tuple(ImageTransform(None, mirrored, each) for each in colours), TransformedRow(
                row, 0
            )
        view, found = self._sample_single_image(row, task, mirrored, colours[0], rng)
        return (view,), found

    def _sample_single_image(
        self, row: Row, task: Task, hflip: bool, color_jitter: ColorJitter, rng: Random
    ) -> tuple[ImageTransform, TransformedRow]:
        """Choose the view of the only image, whose objects move with it."""
        window = self._sample_crop_box(row.size, task, rng)
        if _row_has_loc_tokens(row):
            return ImageTransform(color_jitter=color_jitter), TransformedRow(row, 0)
        view = ImageTransform(window, hflip, color_jitter)
        found = transform_row(row, view, self.min_visible)
        if found.num_dropped and not task.include_in_training(found.row):
            view = ImageTransform(None, hflip, color_jitter)
            found = transform_row(row, view, self.min_visible)
        return view, found

    def _sample_crop_box(self, size: Size, task: Task, rng: Random) -> CropBox | None:
        drawn = rng.random()
        if drawn < self.crop_prob:
            return random_crop(size, self.crop_area, rng) if task.allow_crop else None
        width, height = size
        if drawn < self.crop_prob + self.pad_prob:
            return _random_crop_box(size, (max(size), max(size)), rng) if width != height else None
        if drawn < self.crop_prob + self.pad_prob + self.square_crop_prob:
            square = min(size), min(size)
            return (
                _random_crop_box(size, square, rng) if task.allow_crop and width != height else None
            )
        return None


@dataclass(kw_only=True)
class DocumentAugmentation(ColorJitterAugmentation):
    """Writing as hands, cameras and scanners differ: turned, slanted, stretched, in other light.

    An example that tells a place, in prompt or answer, keeps its geometry.
    """

    name: ClassVar[str] = "document"

    degrees: float = 8.0
    """Most by which a page is turned, either way, in [0, 45]."""
    shear: float = 0.2
    """Most by which its top moves to a side, as a share of the height, in [0, 1]."""
    aspect: float = 0.15
    """Most by which width and height grow or shrink, each by itself, in [0, 1)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_range("degrees", self.degrees, 0, 45)
        _check_range("shear", self.shear, 0, 1)
        _check_range("aspect", self.aspect, 0, 0.99)

    def sample(
        self, example: Example, row: Row, task: Task, rng: Random
    ) -> tuple[tuple[ImageTransform, ...], TransformedRow]:
        still = _example_has_loc_tokens(example)
        views = (
            ImageTransform(
                color_jitter=self.sample_color_jitter(rng), affine=self._sample_affine(rng)
            )
            for _ in row.images
        )
        return tuple(
            replace(view, affine=Affine()) if still else view for view in views
        ), TransformedRow(row, 0)

    def _sample_affine(self, rng: Random) -> Affine:
        def drawn(most: float) -> float:
            return rng.uniform(-most, most)

        return Affine(
            drawn(self.degrees), drawn(self.shear), 1 + drawn(self.aspect), 1 + drawn(self.aspect)
        )


AUGMENTATIONS: dict[str, type[Augmentation]] = {
    augmentation.name: augmentation
    for augmentation in (NoAugmentation, GeometricAugmentation, DocumentAugmentation)
}


def random_crop(size: Size, min_area: float, rng: Random) -> CropBox:
    """Draw a part of an image, of at least the share `least` of its area but for rounding."""
    width, height = size
    area, aspect = rng.uniform(min_area, 1), _MAX_ASPECT_CHANGE ** rng.uniform(-1, 1)
    across = min(max((area * aspect) ** 0.5, area), 1.0)
    down = area / across
    return _random_crop_box(
        size, (max(round(across * width), 1), max(round(down * height), 1)), rng
    )


def mentions_left_or_right(example: Example) -> bool:
    """Tell whether prompt or targets hold a word that a mirror makes wrong."""
    return any(_SIDE_WORDS.search(text) for text in (example.prefix, *example.suffixes))


def _example_has_loc_tokens(example: Example) -> bool:
    return any("<loc" in text for text in (example.prefix, *example.suffixes))


def _row_has_loc_tokens(row: Row) -> bool:
    """Tell whether a row brings places that are written already."""
    return "<loc" in f"{row.prefix}{row.suffix}"


def _random_crop_box(size: Size, crop_size: Size, rng: Random) -> CropBox:
    """Draw where a window lies: inside the image or, on sides on which it is larger, around it."""
    corner = [rng.randint(*sorted((0, s - w))) for s, w in zip(size, crop_size, strict=True)]
    return corner[0], corner[1], corner[0] + crop_size[0], corner[1] + crop_size[1]


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"augmentation.{name} must lie in [{low:g}, {high:g}], not {value}")
