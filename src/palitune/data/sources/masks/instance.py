"""Instance masks: an image of object numbers per image, or an image per object.

In an image of object numbers, the class follows from the number (`class * data.divisor + object`,
with the divisor 1000 in Cityscapes), or there is one class only. Images of single objects are in a
folder with the name of the image; the class is the part of the file name before the last `_`
(`boat_2.png`), or there is one class only.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, ClassVar

from annotated_types import Ge

from palitune.data.sources.folders import iterate_images
from palitune.data.sources.masks.folder import MaskFolder, read_mask_image, unique_ids
from palitune.errors import DataError
from palitune.records import Mask, Size


class MaskLayout(Enum):
    """Files that hold the masks of an image."""

    ids = "ids"
    """One image whose pixels are object numbers."""
    files = "files"
    """A folder with a black and white image for each object."""


@dataclass(kw_only=True)
class InstanceMasks(MaskFolder):
    """Rows from masks of single objects."""

    name: ClassVar[str] = "instance_masks"

    layout: MaskLayout = MaskLayout.ids
    """One image of object numbers per image, or one image per object: ids | files."""
    divisor: Annotated[int | None, Ge(2)] = None
    """The class number is the object number divided by this; lower numbers are no objects
    (null: there is one class)."""
    background: int = 0
    """Number of the pixels that belong to no object, if there is one class."""

    def masks_by_image(self, folder: Path, images: Iterable[str]) -> dict[str, Path]:
        """Return the masks of each image; an image without a folder of masks has no objects."""
        if self.layout is MaskLayout.ids:
            return super().masks_by_image(folder, images)
        folders = sorted({file.parent for file in iterate_images(folder)})
        if folder in folders:
            raise DataError(
                f"{folder}: data.layout=files must have a folder of masks for each image, got "
                "masks in the folder itself. Move them, or set data.layout=ids."
            )
        annotated = {
            f.relative_to(folder).as_posix().removesuffix(self.mask_suffix): f for f in folders
        }
        return {stem: folder / f"{stem}{self.mask_suffix}" for stem in images} | annotated

    def objects(
        self, mask_path: Path, size: Size, classes: tuple[str, ...]
    ) -> Iterator[tuple[str, Mask]]:
        if self.layout is MaskLayout.files:
            for file in iterate_images(mask_path) if mask_path.is_dir() else ():
                mask = read_mask_image(file, size) > 0
                if not mask.any():
                    raise DataError(
                        f"{file}: mask must have at least one pixel, got none. Drop or redraw it."
                    )
                yield _class_from_filename(file, classes), mask
            return
        if self.divisor is None and len(classes) != 1:
            raise DataError(
                f"{mask_path}: data.divisor must be set for {len(classes)} classes, got null. Set "
                "it to the number by which object numbers are divided, e.g. 1000."
            )
        pixels = read_mask_image(mask_path, size)
        for number in unique_ids(pixels):
            if self.divisor is None and number != self.background:
                yield classes[0], pixels == number
            elif self.divisor is not None and number >= self.divisor:
                label = self.class_for_id(number // self.divisor, classes, mask_path)
                yield label, pixels == number


def _class_from_filename(file: Path, classes: tuple[str, ...]) -> str:
    if len(classes) == 1:
        return classes[0]
    label = file.stem.rpartition("_")[0] or file.stem
    if label not in classes:
        raise DataError(
            f"{file}: class (the name up to the last '_') must be one of {', '.join(classes)}, got "
            f"{label!r}. Rename the file, or add the class to data.classes."
        )
    return label
