"""Images without annotations, each asked the same: for predictions."""

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from palitune.data.images.video import VIDEO_EXTENSIONS, VideoSampling
from palitune.data.sources.folders import IMAGE_EXTENSIONS, walk_files
from palitune.errors import DataError
from palitune.records import Example
from palitune.tasks.base import multiple_images_message
from palitune.tasks.infer_task import TaskPrompt


@dataclass(frozen=True)
class UnlabeledImages:
    """Image files by the name that tells them apart: their path in the folder that was named."""

    files: dict[str, Path]
    num_other_files: int
    """Files of the folders that are not images by their ending."""


@dataclass(frozen=True, kw_only=True)
class ImagePrompts:
    """A prompt per image."""

    examples: list[Example]
    unreadable: list[str]
    """A sentence for every image that was left out."""
    num_images: int
    """Images that were found."""
    num_other_files: int
    """Files beside them that are not images."""

    def summary(self) -> str:
        """Say how many images are asked, and what is left out."""
        sentence = f"images: {len(self.examples)} of {self.num_images}"
        if self.unreadable:
            sentence += f", unreadable and left out: {len(self.unreadable)}"
        if len(self.examples) + len(self.unreadable) < self.num_images:
            sentence += ", as evaluation.max_samples says"
        return sentence + (
            f"; other files skipped: {self.num_other_files}" if self.num_other_files else ""
        )


def list_images(paths: Sequence[str]) -> UnlabeledImages:
    """Find images and videos in folders with their subfolders, by patterns, and as files.

    Raises DataError where a place does not exist or nothing is an image.
    """
    files: dict[Path, None] = {}
    folders: list[str] = []
    others = 0
    for place in paths:
        for found in _expand_path(place):
            path = Path(os.path.abspath(found))
            inside = list(walk_files(path)) if path.is_dir() else [path]
            images = [f for f in inside if is_image(f)] if path.is_dir() else inside
            others += len(inside) - len(images)
            files |= dict.fromkeys(images)
            folders.append(str(path if path.is_dir() else path.parent))
    if not files:
        raise DataError(
            f"images: {', '.join(paths)} holds no images (other files: {others}); they end in "
            f"{', '.join(IMAGE_EXTENSIONS + VIDEO_EXTENSIONS)}"
        )
    above = os.path.commonpath(folders)
    return UnlabeledImages({file.relative_to(above).as_posix(): file for file in files}, others)


def is_image(file: Path) -> bool:
    """Tell by its ending whether a file is an image, or a video, whose frames are images."""
    return file.suffix.lower() in IMAGE_EXTENSIONS + VIDEO_EXTENSIONS


def build_prompts(
    images: UnlabeledImages,
    question: TaskPrompt,
    *,
    max_samples: int | None,
    skip_unreadable: bool,
    multi_image: bool = False,
    video_sampling: VideoSampling | None = None,
) -> ImagePrompts:
    """Ask each of the first `limit` images the question, or all of them as one (`together`).

    A video is asked by its `frames`. One that cannot be read raises DataError.
    """
    video_sampling = video_sampling or VideoSampling()
    asked = {name: [file] for name, file in list(images.files.items())[:max_samples]}
    if multi_image:
        asked = {", ".join(asked): [file for files in asked.values() for file in files]}
    examples, unreadable = [], []
    for name, files in asked.items():
        try:
            seen = [path for file in files for path in _image_paths(file, video_sampling)]
            examples.append(_build_example(name, seen, question))
        except DataError as mistake:
            unreadable.append(_skip_or_raise(mistake, skip_unreadable))
    if not examples:
        raise DataError(
            f"images: none of {len(unreadable)} can be read, the first: {unreadable[0]}"
        )
    total = 1 if multi_image else len(images.files)
    return ImagePrompts(
        examples=examples,
        unreadable=unreadable,
        num_images=total,
        num_other_files=images.num_other_files,
    )


def _image_paths(file: Path, video_sampling: VideoSampling) -> tuple[str, ...]:
    return (
        video_sampling.extract(str(file))
        if file.suffix.lower() in VIDEO_EXTENSIONS
        else (str(file),)
    )


def _build_example(name: str, images: Sequence[str], question: TaskPrompt) -> Example:
    from palitune.data.images.io import read_size

    place = f"images: {name}"
    if question.task.single_image_only and len(images) > 1:
        raise DataError(multiple_images_message(place, len(images), question.task.name))
    sizes = [read_size(image) for image in images]
    return Example(
        id=name,
        images=tuple(images),
        size=sizes[0],
        prefix=question.prompt,
        suffixes=(),
        reference=(),
        location=place,
        component=question.task.name,
    )


def _skip_or_raise(error: DataError, skip_unreadable: bool) -> str:
    if not skip_unreadable:
        raise DataError(f"{error} (skip_unreadable=true leaves it out)") from error
    return str(error)


def _expand_path(pattern: str) -> list[Path]:
    """Return the file or folder, or the images and folders that a pattern matches, by name."""
    path = Path(pattern).expanduser()
    if path.exists():
        return [path]
    matches = [Path(match) for match in glob.glob(str(path), recursive=True)]
    found = sorted(match for match in matches if match.is_dir() or is_image(match))
    if not found:
        raise DataError(f"images: {pattern} does not exist; give a folder, a file or a pattern")
    return found
