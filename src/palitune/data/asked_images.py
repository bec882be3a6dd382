"""Images without annotations, each asked the same: for predictions."""

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from palitune.data.sources.folders import IMAGE_ENDINGS, walk
from palitune.examples import DataError, Example
from palitune.tasks.question import Question


@dataclass(frozen=True, kw_only=True)
class ImageFiles:
    """Image files by the name that tells them apart: their path below what they have in common."""

    files: dict[str, Path]
    others: int
    """Files of the folders that are not images by their ending."""


@dataclass(frozen=True, kw_only=True)
class AskedImages:
    """A prompt per image."""

    examples: list[Example]
    unreadable: list[str]
    """A sentence for every image that was left out."""
    total: int
    """Images that were found."""
    others: int
    """Files beside them that are not images."""

    def told(self) -> str:
        """Say how many images are asked, and what is left out."""
        sentence = f"images: {len(self.examples)} of {self.total}"
        if self.unreadable:
            sentence += f", {len(self.unreadable)} unreadable ones left out"
        if len(self.examples) + len(self.unreadable) < self.total:
            sentence += ", as evaluation.limit says"
        return sentence + (f"; other files skipped: {self.others}" if self.others else "")


def find_images(places: Sequence[str]) -> ImageFiles:
    """Find images in folders with their subfolders, by patterns, and as files named one by one.

    Raises DataError where a place does not exist or nothing is an image.
    """
    files: list[Path] = []
    others = 0
    for place in places:
        root = Path(place).expanduser()
        found = [root] if root.exists() else _matching(str(root))
        if not found:
            raise DataError(f"images: {place} does not exist; give a folder, a file or a pattern")
        for path in found:
            inside = list(walk(path)) if path.is_dir() else [path]
            images = [f for f in inside if not path.is_dir() or is_image(f)]
            others += len(inside) - len(images)
            files += images
    if not files:
        raise DataError(
            f"images: {', '.join(places)} holds no images ({others} other files); they end in "
            f"{', '.join(IMAGE_ENDINGS)}"
        )
    absolute = list(dict.fromkeys(Path(os.path.abspath(file)) for file in files))
    above = os.path.commonpath([file.parent for file in absolute])
    named = {file.relative_to(above).as_posix(): file for file in absolute}
    return ImageFiles(files=named, others=others)


def is_image(file: Path) -> bool:
    return file.suffix.lower() in IMAGE_ENDINGS


def ask_images(
    images: ImageFiles, question: Question, *, limit: int | None, skip_unreadable: bool
) -> AskedImages:
    """Ask the first `limit` images the question; one that cannot be read raises DataError."""
    from palitune.data.images import read_size

    examples, unreadable = [], []
    for name, file in list(images.files.items())[:limit]:
        try:
            examples.append(
                Example(
                    id=name,
                    images=(str(file),),
                    size=read_size(file),
                    prefix=question.prompt,
                    suffixes=(),
                    reference=(),
                    place=f"images: {name}",
                    part=question.task.name,
                )
            )
        except DataError as mistake:
            unreadable.append(_leave_out(mistake, skip_unreadable))
    if not examples:
        raise DataError(
            f"images: none of {len(unreadable)} can be read, the first: {unreadable[0]}"
        )
    total = len(images.files)
    return AskedImages(examples=examples, unreadable=unreadable, total=total, others=images.others)


def _leave_out(mistake: DataError, skip_unreadable: bool) -> str:
    if not skip_unreadable:
        raise DataError(f"{mistake} (skip_unreadable=true leaves it out)") from mistake
    return str(mistake)


def _matching(pattern: str) -> list[Path]:
    """Return the image files and folders that a pattern matches, in the order of their names."""
    found = (Path(path) for path in glob.glob(pattern, recursive=True))
    return sorted(path for path in found if path.is_dir() or is_image(path))
