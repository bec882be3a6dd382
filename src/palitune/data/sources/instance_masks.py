"""Instance masks: a map of object numbers per image, or an image per object.

A map gives an object's class by its number (`class * data.divisor + object`, as Cityscapes' 1000),
or there is one class only. Images per object lie in a folder named for their image; an object's
class is the part of the file's name before its last `_` (`boat_2.png`), or there is one class only.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import ClassVar

from palitune.data.sources.folders import iterate_images
from palitune.data.sources.mask_images import MaskFolder, read_mask_image, unique_ids
from palitune.errors import DataError
from palitune.records import Mask, Size


class MaskLayout(Enum):
    """How objects are kept apart."""

    ids = "ids"
    """One map per image, whose pixels are numbers of objects."""
    files = "files"
    """A folder per image with a black and white image for each object."""


@dataclass(kw_only=True)
class InstanceMasks(MaskFolder):
    """Rows out of masks of single objects."""

    name: ClassVar[str] = "instance_masks"

    layout: MaskLayout = MaskLayout.ids
    """One map of object numbers per image, or one image per object: ids | files."""
    divisor: int | None = None
    """An object's number divided by this is the number of its class, and numbers below it are no
    objects; null: there is one class."""
    background: int = 0
    """Number of the pixels that belong to no object, where there is one class."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.divisor is not None and self.divisor < 2:
            raise ValueError(f"data.divisor must be at least 2, not {self.divisor}")

    def masks_by_image(self, folder: Path, images: Iterable[str]) -> dict[str, Path]:
        """Return what annotates each image; in layout `files`, one without has no objects."""
        if self.layout is MaskLayout.ids:
            return super().masks_by_image(folder, images)
        folders = sorted({file.parent for file in iterate_images(folder)})
        if folder in folders:
            raise DataError(
                f"{folder}: masks lie in the folder itself; with data.layout=files each image has "
                "a folder of its own, named for it"
            )
        named = {
            f.relative_to(folder).as_posix().removesuffix(self.mask_suffix): f for f in folders
        }
        return {stem: folder / f"{stem}{self.mask_suffix}" for stem in images} | named

    def objects(
        self, mask_path: Path, size: Size, classes: tuple[str, ...]
    ) -> Iterator[tuple[str, Mask]]:
        if self.layout is MaskLayout.files:
            for file in iterate_images(mask_path) if mask_path.is_dir() else ():
                mask = read_mask_image(file, size) > 0
                if not mask.any():
                    raise DataError(f"{file}: mask has no pixels; drop the file or draw it anew")
                yield _class_from_filename(file, classes), mask
            return
        if self.divisor is None and len(classes) != 1:
            raise DataError(
                f"{mask_path}: an object may be any of {len(classes)} classes; say with data.divisor "
                "how the class follows from its number"
            )
        pixels = read_mask_image(mask_path, size)
        for number in unique_ids(pixels):
            if self.divisor is None and number != self.background:
                yield classes[0], pixels == number
            elif self.divisor is not None and number >= self.divisor:
                place = f"{mask_path}: object {number} is"
                yield self.class_for_id(number // self.divisor, classes, place), pixels == number


def _class_from_filename(file: Path, classes: tuple[str, ...]) -> str:
    if len(classes) == 1:
        return classes[0]
    label = file.stem.rpartition("_")[0] or file.stem
    if label not in classes:
        raise DataError(
            f"{file}: class {label!r} (its name up to the last '_') is none of "
            f"{', '.join(classes)}; rename it, or add it to data.classes"
        )
    return label
