"""Base class of the formats that store masks as images, and the reading of mask images.

A mask image (or a folder of masks) has the name of its image, perhaps with a suffix such as
`_mask`. The masks of a split lie in `masks/train`, `annotations/train`, `labels/train`,
`train/masks` and so on, the images in the matching folder (`images/train`, `train/images`).
"""

import os
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from palitune.data.sources.base import Source
from palitune.data.sources.folders import images_by_stem, walk_files
from palitune.data.sources.masks.formats import mask_to_box
from palitune.data.sources.validation import (
    HeaderReader,
    cached_header_reader,
    image_size,
    utf8_lines,
    with_location,
)
from palitune.errors import DataError
from palitune.records import Instance, Mask, Row, Size

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Pixels = npt.NDArray[np.int64]

MASK_FOLDER_NAMES = ("masks", "annotations", "labels", "gtFine")


@dataclass(kw_only=True)
class MaskFolder(Source):
    """Rows from a folder of images and a folder of masks: one per mask image."""

    patterns: ClassVar[tuple[str, ...]] = (
        *(f"{name}/{{split}}" for name in MASK_FOLDER_NAMES),
        *(f"{name}/{{split}}ing" for name in MASK_FOLDER_NAMES),
        *(f"{{split}}/{name}" for name in MASK_FOLDER_NAMES),
    )
    accepts_folders: ClassVar[bool] = True

    images: str | None = None
    """Folder of the images, relative to `path` or absolute, where {split} is replaced (null: search
    the usual folders)."""
    mask_suffix: str = ""
    """Suffix that mask names add to image names, e.g. _mask for `a_mask.png` and `a.jpg`."""
    masks: bool = False
    """Read masks, not only the boxes around them."""
    classes: list[str] = field(default_factory=list)
    """All classes, in the order of their numbers (empty: the lines of `classes.txt`)."""
    first_class_id: int = 0
    """Number of the first class in the masks; 1 if 0 means no class, as in ADE20K."""

    @abstractmethod
    def objects(
        self, mask_path: Path, size: Size, classes: tuple[str, ...]
    ) -> Iterator[tuple[str, Mask]]:
        """Yield label and (height, width) mask of each object of an image. Raises DataError.

        Args:
            mask_path: Mask image, or folder of mask images.
            size: (width, height) of the image in pixels.
            classes: All classes.
        """

    def files(self, split: str) -> Iterable[Path]:
        folder = self.annotation_file(split)
        yield folder
        if (names := self.folder() / "classes.txt").is_file():
            yield names
        yield from walk_files(folder)

    def read(self, file: Path, split: str) -> Iterator[Row | DataError]:
        if not file.is_dir():
            raise DataError(
                f"{file}: masks must be a folder, got a file. Set data.splits.{split}=FOLDER."
            )
        images = images_by_stem(self._image_folder(file, split))
        read_header, classes = cached_header_reader(), self.class_names()
        for stem, mask_path in self.masks_by_image(file, images).items():
            try:
                yield self._row(stem, mask_path, images.get(stem), read_header, classes)
            except DataError as error:
                yield with_location(error, str(mask_path))

    def masks_by_image(self, folder: Path, images: Iterable[str]) -> dict[str, Path]:
        """Return the mask image of each image, by the image's name.

        Images without a mask give no row: whether they show an object is unknown.
        """
        masks = images_by_stem(folder)
        for stem, file in masks.items():
            if not stem.endswith(self.mask_suffix):
                raise DataError(
                    f"{file}: mask name must end in data.mask_suffix={self.mask_suffix!r}, got "
                    f"{file.stem!r}. Move the file elsewhere."
                )
        return {stem.removesuffix(self.mask_suffix): file for stem, file in masks.items()}

    def class_names(self) -> tuple[str, ...]:
        """Return the classes of the settings, else those of `classes.txt`."""
        if self.classes:
            return tuple(self.classes)
        file = self.folder() / "classes.txt"
        if not file.is_file():
            raise DataError(
                f"{file} does not exist. List the classes in it, one per line, or set "
                "data.classes=[...]."
            )
        return tuple(filter(None, map(str.strip, utf8_lines(file.read_bytes(), file))))

    def class_for_id(self, class_id: int, classes: tuple[str, ...], mask_path: Path) -> str:
        """Return the class of a number in a mask image. Raises DataError for an unknown number."""
        index = class_id - self.first_class_id
        if not 0 <= index < len(classes):
            raise DataError(
                f"{mask_path}: class number must be one of the {len(classes)} of data.classes, "
                f"from {self.first_class_id} to {self.first_class_id + len(classes) - 1}, got "
                f"{class_id}. Add its name, or correct data.first_class_id."
            )
        return classes[index]

    def _row(
        self,
        stem: str,
        mask_path: Path,
        image: Path | None,
        read_header: HeaderReader,
        classes: tuple[str, ...],
    ) -> Row:
        if image is None:
            raise DataError(
                f"{mask_path}: mask must have an image {stem!r}, got none. Check data.images and "
                "data.mask_suffix."
            )
        path = os.path.abspath(image)
        size = image_size(read_header, path, str(mask_path))
        return Row(
            id=stem,
            images=(path,),
            size=size,
            location=str(mask_path),
            instances=tuple(
                Instance(label=label, box=mask_to_box(mask), mask=mask if self.masks else None)
                for label, mask in self.objects(mask_path, size, classes)
            ),
            classes=tuple(dict.fromkeys(classes)),
        )

    def _image_folder(self, masks_folder: Path, split: str) -> Path:
        parent = masks_folder.parent
        folders = [
            parent.parent / "images" / masks_folder.name,
            parent / "images",
            parent.parent / masks_folder.name / "images",
        ]
        if self.images is not None:
            folders = [self.folder() / Path(self.images.replace("{split}", split)).expanduser()]
        for folder in folders:
            if folder.is_dir():
                return folder
        raise DataError(
            f"{masks_folder}: images must be in {' or '.join(map(str, dict.fromkeys(folders)))}, "
            "got no such folder. Set data.images=FOLDER."
        )


def read_mask_image(file: Path, size: Size) -> "Pixels":
    """Return the (height, width) int64 numbers of a gray or palette image, 8 or 16 bits.

    Raises DataError if the file is in color, unreadable, or not `size` (width, height) large.
    """
    import numpy as np
    from PIL import Image

    try:
        with Image.open(file) as image:
            mode, mask_size = image.mode, image.size
            pixels: Any = np.asarray(image) if mode in ("1", "L", "P", "I", "I;16") else None
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{file}: mask cannot be read ({error}). Save it again.") from error
    if pixels is None:
        raise DataError(
            f"{file}: mask must be a gray or palette image of class or object numbers, got mode "
            f"{mode}. Convert it."
        )
    if mask_size != size:
        raise DataError(
            f"{file}: mask must have the size {size[0]}x{size[1]} px of its image, got "
            f"{mask_size[0]}x{mask_size[1]} px. Save it in the size of the upright image."
        )
    numbers: Pixels = pixels.astype(np.int64)
    return numbers


def unique_ids(pixels: "Pixels") -> list[int]:
    """Return the sorted distinct numbers of a mask image."""
    import numpy as np

    return [int(number) for number in np.unique(pixels)]
