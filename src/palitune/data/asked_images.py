"""Images without annotations, each asked the same: for predictions."""

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from palitune.data.sources.folders import IMAGE_ENDINGS, walk
from palitune.data.sources.videos import VIDEO_ENDINGS, Frames
from palitune.examples import DataError, Example
from palitune.tasks.base import several_images
from palitune.tasks.question import Question


@dataclass(frozen=True)
class ImageFiles:
    """Image files by the name that tells them apart: their path in the folder that was named."""

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
            sentence += f", unreadable and left out: {len(self.unreadable)}"
        if len(self.examples) + len(self.unreadable) < self.total:
            sentence += ", as evaluation.limit says"
        return sentence + (f"; other files skipped: {self.others}" if self.others else "")


def find_images(places: Sequence[str]) -> ImageFiles:
    """Find images and videos in folders with their subfolders, by patterns, and as files.

    Raises DataError where a place does not exist or nothing is an image.
    """
    files: dict[Path, None] = {}
    folders: list[str] = []
    others = 0
    for place in places:
        for found in _found(place):
            path = Path(os.path.abspath(found))
            inside = list(walk(path)) if path.is_dir() else [path]
            images = [f for f in inside if is_image(f)] if path.is_dir() else inside
            others += len(inside) - len(images)
            files |= dict.fromkeys(images)
            folders.append(str(path if path.is_dir() else path.parent))
    if not files:
        raise DataError(
            f"images: {', '.join(places)} holds no images (other files: {others}); they end in "
            f"{', '.join(IMAGE_ENDINGS + VIDEO_ENDINGS)}"
        )
    above = os.path.commonpath(folders)
    return ImageFiles({file.relative_to(above).as_posix(): file for file in files}, others)


def is_image(file: Path) -> bool:
    """Tell by its ending whether a file is an image, or a video, whose frames are images."""
    return file.suffix.lower() in IMAGE_ENDINGS + VIDEO_ENDINGS


def ask_images(
    images: ImageFiles,
    question: Question,
    *,
    limit: int | None,
    skip_unreadable: bool,
    together: bool = False,
    frames: Frames | None = None,
) -> AskedImages:
    """Ask each of the first `limit` images the question, or all of them as one (`together`).

    A video is asked by its `frames`. One that cannot be read raises DataError.
    """
    frames = frames or Frames()
    asked = {name: [file] for name, file in list(images.files.items())[:limit]}
    if together:
        asked = {", ".join(asked): [file for files in asked.values() for file in files]}
    examples, unreadable = [], []
    for name, files in asked.items():
        try:
            seen = [path for file in files for path in _pictures(file, frames)]
            examples.append(_asked(name, seen, question))
        except DataError as mistake:
            unreadable.append(_leave_out(mistake, skip_unreadable))
    if not examples:
        raise DataError(
            f"images: none of {len(unreadable)} can be read, the first: {unreadable[0]}"
        )
    total = 1 if together else len(images.files)
    return AskedImages(examples=examples, unreadable=unreadable, total=total, others=images.others)


def _pictures(file: Path, frames: Frames) -> tuple[str, ...]:
    return frames.of(str(file)) if file.suffix.lower() in VIDEO_ENDINGS else (str(file),)


def _asked(name: str, images: Sequence[str], question: Question) -> Example:
    from palitune.data.images import read_size

    place = f"images: {name}"
    if question.task.about_one_image and len(images) > 1:
        raise DataError(several_images(place, len(images), question.task.name))
    sizes = [read_size(image) for image in images]
    return Example(
        id=name,
        images=tuple(images),
        size=sizes[0],
        prefix=question.prompt,
        suffixes=(),
        reference=(),
        place=place,
        part=question.task.name,
    )


def _leave_out(mistake: DataError, skip_unreadable: bool) -> str:
    if not skip_unreadable:
        raise DataError(f"{mistake} (skip_unreadable=true leaves it out)") from mistake
    return str(mistake)


def _found(place: str) -> list[Path]:
    """Return the file or folder, or the images and folders that a pattern matches, by name."""
    path = Path(place).expanduser()
    if path.exists():
        return [path]
    matches = [Path(match) for match in glob.glob(str(path), recursive=True)]
    found = sorted(match for match in matches if match.is_dir() or is_image(match))
    if not found:
        raise DataError(f"images: {place} does not exist; give a folder, a file or a pattern")
    return found
