"""What the formats share that keep masks as images: which image goes with which map of pixels.

A map (or a folder of masks) has its image's name, perhaps with an ending such as `_mask`. The maps
of a split lie in `masks/train`, `annotations/train`, `labels/train`, `train/masks` and so on, the
images in the folder of the same form (`images/train`, `train/images`).
"""

import os
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from palitune.data.sources.base import Source
from palitune.data.sources.folders import images_by_stem, walk_files
from palitune.data.sources.mask_formats import mask_to_box
from palitune.data.sources.validation import (
    HeaderReader,
    cached_header_reader,
    image_size,
    utf8_lines,
)
from palitune.errors import DataError
from palitune.records import Instance, Mask, Row, Size

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Pixels = npt.NDArray[np.int64]

_MASK_FOLDER_NAMES = ("masks", "annotations", "labels", "gtFine")


@dataclass(kw_only=True)
class MaskFolder(Source):
    """Rows out of a folder of images and a folder of maps: one per map."""

    patterns: ClassVar[tuple[str, ...]] = (
        *(f"{name}/{{split}}" for name in _MASK_FOLDER_NAMES),
        *(f"{name}/{{split}}ing" for name in _MASK_FOLDER_NAMES),
        *(f"{{split}}/{name}" for name in _MASK_FOLDER_NAMES),
    )
    accepts_folders: ClassVar[bool] = True

    images: str | None = None
    """Folder of the images, relative to `path` or absolute, {split} is filled in; null: found in
    the usual places."""
    mask_suffix: str = ""
    """What a map's name has after its image's name, e.g. _mask for `a_mask.png` and `a.jpg`."""
    masks: bool = False
    """Instances get their masks, not only the boxes around them."""
    classes: list[str] = field(default_factory=list)
    """Every class, in the order of the numbers in the maps; empty: the lines of `classes.txt`."""

    first_class_id: int = 0
    """Number of the first class in the maps; 1 where 0 means no class, as in ADE20K."""

    @abstractmethod
    def objects(
        self, mask_path: Path, size: Size, classes: tuple[str, ...]
    ) -> Iterator[tuple[str, Mask]]:
        """Yield label and mask of the objects of one image; raise DataError naming the map."""

    def files(self, split: str) -> Iterable[Path]:
        file = self.annotation_file(split)
        yield file
        if (names := self.folder() / "classes.txt").is_file():
            yield names
        yield from walk_files(file)

    def read(self, file: Path, split: str) -> Iterator[Row | DataError]:
        if not file.is_dir():
            raise DataError(f"{file}: not a folder of masks; name one with data.splits.{split}")
        images = images_by_stem(self._image_folder(file, split))
        header, classes = cached_header_reader(), self.class_names()
        for stem, entry in self.masks_by_image(file, images).items():
            place = str(entry)
            try:
                yield self._row(stem, entry, images.get(stem), header, classes)
            except DataError as mistake:
                text = str(mistake)
                yield mistake if text.startswith(place) else DataError(f"{place}: {text}")

    def masks_by_image(self, folder: Path, images: Iterable[str]) -> dict[str, Path]:
        """Return what annotates each image, by the image's name.

        An image without a map is no row: nobody knows what it shows.
        """
        maps = images_by_stem(folder)
        for stem in maps:
            if not stem.endswith(self.mask_suffix):
                raise DataError(
                    f"{maps[stem]}: its name does not end in data.mask_suffix={self.mask_suffix!r}; "
                    "move it elsewhere"
                )
        return {stem.removesuffix(self.mask_suffix): file for stem, file in maps.items()}

    def class_names(self) -> tuple[str, ...]:
        """Return the classes of the settings, else those of `classes.txt`."""
        if self.classes:
            return tuple(self.classes)
        file = self.folder() / "classes.txt"
        if not file.is_file():
            raise DataError(
                f"{file} does not exist; name the classes there, one per line, or with "
                "data.classes=[...]"
            )
        return tuple(filter(None, map(str.strip, utf8_lines(file.read_bytes(), file))))

    def class_for_id(self, class_id: int, classes: tuple[str, ...], location: str) -> str:
        """Return the class of a number in the maps."""
        index = class_id - self.first_class_id
        if not 0 <= index < len(classes):
            raise DataError(
                f"{location} of class {class_id}, but data.classes names {len(classes)}, from "
                f"{self.first_class_id} to {self.first_class_id + len(classes) - 1}; add its "
                "name or correct data.first_class_id"
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
                f"{mask_path}: there is no image {stem!r} for it; see data.images and data.mask_suffix"
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
        if self.images is not None:
            folders = [self.folder() / Path(self.images.replace("{split}", split)).expanduser()]
        else:
            beside = masks_folder.parent.parent / "images" / masks_folder.name
            folders = [
                beside,
                masks_folder.parent / "images",
                masks_folder.parent.parent / masks_folder.name / "images",
            ]
        found = next((folder for folder in folders if folder.is_dir()), None)
        if found is None:
            looked = ", ".join(str(folder) for folder in dict.fromkeys(folders))
            raise DataError(
                f"{masks_folder}: no folder of its images ({looked}); name it with data.images"
            )
        return found


def read_mask_image(file: Path, size: Size) -> "Pixels":
    """Return the (height, width) numbers of a grey or palette image, 8 or 16 bits.

    Raises DataError where the file is in colour or not as large as its image.
    """
    import numpy as np
    from PIL import Image

    try:
        with Image.open(file) as image:
            mode, found = image.mode, image.size
            pixels: Any = np.asarray(image) if mode in ("1", "L", "P", "I", "I;16") else None
    except (OSError, ValueError, SyntaxError) as mistake:
        raise DataError(f"{file}: the mask cannot be read ({mistake}); save it anew") from mistake
    if pixels is None:
        raise DataError(
            f"{file}: the mask is in colour (mode {mode}); save the number of the class or object "
            "of each pixel, as a grey or palette image"
        )
    if found != size:
        raise DataError(
            f"{file}: the mask has {found[0]}x{found[1]} px, but its image {size[0]}x{size[1]} px; "
            "save it in the size of the upright image"
        )
    numbers: Pixels = pixels.astype(np.int64)
    return numbers


def unique_ids(pixels: "Pixels") -> list[int]:
    """Return the different numbers of a map, the lowest first."""
    import numpy as np

    return [int(number) for number in np.unique(pixels)]
