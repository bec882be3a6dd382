"""What training changes about images from visit to visit: chosen here, carried out by `views`.

Boxes and masks move with the image, and the task writes prompt and target anew of what is seen, so
that both stay true; what would not is left where it is. Evaluation never augments.
"""

import re
from dataclasses import dataclass, replace
from random import Random
from typing import ClassVar

from palitune.data.views import Colours, Seen, View, Warp, Window, seen
from palitune.examples import Example, Row, Size
from palitune.tasks import Task

# Words that a mirror makes wrong, by their stems, in languages that PaliGemma knows well.
_SIDES = re.compile(
    r"\b(?:left|right|clockwise|anti-?clockwise|counter-?clockwise|links|linke|rechts|rechte|gauche|"
    r"droite|izquierd|derech|esquerd|direit|sinistr|destr[ao])|左|右",
    re.IGNORECASE,
)
_ASPECT = 4 / 3
"""Most by which a crop's width over height differs from the image's."""


@dataclass(kw_only=True)
class Augmentation:
    """What a visit sees depends on seed, epoch and place in the training set alone."""

    name: ClassVar[str]

    def draws(self) -> bool:
        """Tell whether any visit may see anything else than the image as it is."""
        return False

    def draw(
        self, example: Example, row: Row, task: Task, chance: Random
    ) -> tuple[tuple[View, ...], Seen]:
        """Choose how a visit sees each image, and give what is then true of the row."""
        return (), Seen(row, 0)


@dataclass(kw_only=True)
class NoAugmentation(Augmentation):
    """Every visit sees the image as it is, as in the transfers that PaliGemma's report tells of."""

    name: ClassVar[str] = "none"


@dataclass(kw_only=True)
class Coloured(Augmentation):
    """What every augmentation can do, wherever things are."""

    brightness: float = 0.2
    """Most that a factor of brightness differs from 1, in [0, 1]; contrast and saturation too."""
    contrast: float = 0.2
    saturation: float = 0.2
    hue: float = 0.02
    """Most that hues are turned, as a share of the colour circle, in [0, 0.5]."""

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast", "saturation"):
            _within(name, getattr(self, name), 0, 1)
        _within("hue", self.hue, 0, 0.5)

    def draws(self) -> bool:
        return True

    def colours(self, chance: Random) -> Colours:
        """Draw how colours are changed."""

        def factor(most: float) -> float:
            return 1 + chance.uniform(-most, most)

        return Colours(
            factor(self.brightness),
            factor(self.contrast),
            factor(self.saturation),
            chance.uniform(-self.hue, self.hue),
        )


@dataclass(kw_only=True)
class Light(Coloured):
    """Mirrors, crops and colours; a share is one of visits, in [0, 1]."""

    name: ClassVar[str] = "light"

    flip: float = 0.5
    """Share that is mirrored: of tasks that read no text, and where no word says left or right."""
    crop: float = 0.5
    """Share that sees a random part of the image: of tasks whose boxes tell what is in it."""
    crop_area: float = 0.5
    """Least share of the image's area that a crop shows, in (0, 1]."""
    min_visible: float = 0.5
    """Least share of an object, in (0, 1], of its mask or else its box, that a crop leaves for the
    object to be written; others are cut away."""
    pad: float = 0.0
    """Share that keeps its aspect: padded with grey to a square, instead of stretched to one."""
    square_crop: float = 0.0
    """Share that keeps its aspect: a random square of the image, as high or wide as it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("flip", "crop", "pad", "square_crop"):
            _within(name, getattr(self, name), 0, 1)
        for name in ("crop_area", "min_visible"):
            _within(name, getattr(self, name), 1e-6, 1)
        if self.crop + self.pad + self.square_crop > 1:
            raise ValueError(
                "augmentation: crop, pad and square_crop exclude each other, so that together they "
                f"are at most 1, not {self.crop + self.pad + self.square_crop:g}"
            )

    def draw(
        self, example: Example, row: Row, task: Task, chance: Random
    ) -> tuple[tuple[View, ...], Seen]:
        colours = [self.colours(chance) for _ in row.images]
        mirrored = chance.random() < self.flip and task.mirrorable
        mirrored = mirrored and not speaks_of_sides(example) and not _has_places(row)
        if len(row.images) > 1:  # of one scene, so that all are mirrored or none is
            return tuple(View(None, mirrored, each) for each in colours), Seen(row, 0)
        view, found = self._alone(row, task, mirrored, colours[0], chance)
        return (view,), found

    def _alone(
        self, row: Row, task: Task, mirrored: bool, colours: Colours, chance: Random
    ) -> tuple[View, Seen]:
        """Choose the view of the only image, whose objects move with it."""
        window = self._window(row.size, task, chance)
        if _has_places(row):
            return View(colours=colours), Seen(row, 0)
        view = View(window, mirrored, colours)
        found = seen(row, view, self.min_visible)
        if found.cut and not task.keeps(found.row):
            view = View(None, mirrored, colours)
            found = seen(row, view, self.min_visible)
        return view, found

    def _window(self, size: Size, task: Task, chance: Random) -> Window | None:
        drawn = chance.random()
        if drawn < self.crop:
            return random_crop(size, self.crop_area, chance) if task.croppable else None
        width, height = size
        if drawn < self.crop + self.pad:
            return _placed(size, (max(size), max(size)), chance) if width != height else None
        if drawn < self.crop + self.pad + self.square_crop:
            square = min(size), min(size)
            return _placed(size, square, chance) if task.croppable and width != height else None
        return None


@dataclass(kw_only=True)
class Page(Coloured):
    """Writing as hands, cameras and scanners differ: turned, slanted, stretched, in other light.

    An example that tells a place, in prompt or answer, keeps its geometry.
    """

    name: ClassVar[str] = "page"

    degrees: float = 8.0
    """Most by which a page is turned, either way, in [0, 45]."""
    slant: float = 0.2
    """Most by which its top moves to a side, as a share of the height, in [0, 1]."""
    stretch: float = 0.15
    """Most by which width and height grow or shrink, each by itself, in [0, 1)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _within("degrees", self.degrees, 0, 45)
        _within("slant", self.slant, 0, 1)
        _within("stretch", self.stretch, 0, 0.99)

    def draw(
        self, example: Example, row: Row, task: Task, chance: Random
    ) -> tuple[tuple[View, ...], Seen]:
        still = _tells_places(example)
        views = (View(colours=self.colours(chance), warp=self._warp(chance)) for _ in row.images)
        return tuple(replace(view, warp=Warp()) if still else view for view in views), Seen(row, 0)

    def _warp(self, chance: Random) -> Warp:
        def drawn(most: float) -> float:
            return chance.uniform(-most, most)

        return Warp(
            drawn(self.degrees), drawn(self.slant), 1 + drawn(self.stretch), 1 + drawn(self.stretch)
        )


AUGMENTATIONS: dict[str, type[Augmentation]] = {
    augmentation.name: augmentation for augmentation in (NoAugmentation, Light, Page)
}


def random_crop(size: Size, least: float, chance: Random) -> Window:
    """Draw a part of an image, of at least the share `least` of its area but for rounding."""
    width, height = size
    area, aspect = chance.uniform(least, 1), _ASPECT ** chance.uniform(-1, 1)
    across = min(max((area * aspect) ** 0.5, area), 1.0)
    down = area / across
    return _placed(size, (max(round(across * width), 1), max(round(down * height), 1)), chance)


def speaks_of_sides(example: Example) -> bool:
    """Tell whether prompt or targets hold a word that a mirror makes wrong."""
    return any(_SIDES.search(text) for text in (example.prefix, *example.suffixes))


def _tells_places(example: Example) -> bool:
    return any("<loc" in text for text in (example.prefix, *example.suffixes))


def _has_places(row: Row) -> bool:
    """Tell whether a row brings places that are written already."""
    return "<loc" in f"{row.prefix}{row.suffix}"


def _placed(size: Size, window: Size, chance: Random) -> Window:
    """Draw where a window lies: inside the image or, on sides on which it is larger, around it."""
    corner = [chance.randint(*sorted((0, s - w))) for s, w in zip(size, window, strict=True)]
    return corner[0], corner[1], corner[0] + window[0], corner[1] + window[1]


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"augmentation.{name} must lie in [{low:g}, {high:g}], not {value}")
