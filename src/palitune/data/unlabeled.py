"""Images without annotations and their prompts, for predictions."""

import glob
import itertools
import os
from collections import deque
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
    """Image and video files by name: their path relative to their common folder."""

    files: dict[str, Path]
    num_other_files: int
    """Other files in the same folders."""


@dataclass(frozen=True, kw_only=True)
class ImagePrompts:
    """Examples with a prompt and no reference."""

    examples: list[Example]
    unreadable: list[str]
    """A message for each skipped image."""
    num_images: int
    num_other_files: int

    def summary(self) -> str:
        """Return a sentence with the number of used and skipped images."""
        sentence = f"images: {len(self.examples)} of {self.num_images}"
        if self.unreadable:
            sentence += f", unreadable and skipped: {len(self.unreadable)}"
        if len(self.examples) + len(self.unreadable) < self.num_images:
            sentence += ", limited by evaluation.max_samples"
        return sentence + (
            f"; other files skipped: {self.num_other_files}" if self.num_other_files else ""
        )


def list_images(paths: Sequence[str]) -> UnlabeledImages:
    """Find images and videos by file, by pattern, and in folders with their subfolders.

    Raises DataError if a path does not exist or there is no image.
    """
    files: dict[Path, None] = {}
    folders: list[str] = []
    num_other_files = 0
    for match in (match for path in paths for match in _expand_path(path)):
        path = Path(os.path.abspath(match))
        if path.is_dir():
            candidates = list(walk_files(path))
            images = [file for file in candidates if is_image(file)]
            num_other_files += len(candidates) - len(images)
        else:
            images = [path]
        files |= dict.fromkeys(images)
        folders.append(str(path if path.is_dir() else path.parent))
    if not files:
        raise DataError(
            f"images: {', '.join(paths)} has no images (other files: {num_other_files}); they end "
            f"in {', '.join(IMAGE_EXTENSIONS + VIDEO_EXTENSIONS)}"
        )
    root = os.path.commonpath(folders)
    return UnlabeledImages(
        {file.relative_to(root).as_posix(): file for file in files}, num_other_files
    )


def is_image(file: Path) -> bool:
    """Return whether a file is an image or a video by its extension."""
    return file.suffix.lower() in IMAGE_EXTENSIONS + VIDEO_EXTENSIONS


def build_prompts(
    images: UnlabeledImages,
    prompt: TaskPrompt,
    *,
    max_samples: int | None,
    skip_unreadable: bool,
    multi_image: bool = False,
    video_sampling: VideoSampling | None = None,
) -> ImagePrompts:
    """Return an example per image with the same prompt.

    Args:
        images: The image and video files.
        prompt: The prompt with its task.
        max_samples: Use the first N images; None: all.
        skip_unreadable: Skip unreadable images instead of raising an error.
        multi_image: Return one example with all images.
        video_sampling: Frames of each video; None: the default settings.

    Raises:
        DataError: An image is unreadable, or all are.
    """
    video_sampling = video_sampling or VideoSampling()
    files_by_name = {name: [file] for name, file in list(images.files.items())[:max_samples]}
    if multi_image:
        files = [file for [file] in files_by_name.values()]
        files_by_name = {", ".join(files_by_name): files}
    examples, unreadable = [], []
    for name, files in files_by_name.items():
        try:
            paths = [path for file in files for path in _image_paths(file, video_sampling)]
            examples.append(_build_example(name, paths, prompt))
        except DataError as error:
            if not skip_unreadable:
                raise DataError(f"{error} (skip_unreadable=true skips it)") from error
            unreadable.append(str(error))
    if not examples:
        raise DataError(
            f"images: none of {len(unreadable)} can be read, the first: {unreadable[0]}"
        )
    return ImagePrompts(
        examples=examples,
        unreadable=unreadable,
        num_images=1 if multi_image else len(images.files),
        num_other_files=images.num_other_files,
    )


def _image_paths(file: Path, video_sampling: VideoSampling) -> tuple[str, ...]:
    is_video = file.suffix.lower() in VIDEO_EXTENSIONS
    return video_sampling.extract(str(file)) if is_video else (str(file),)


def _build_example(name: str, images: Sequence[str], prompt: TaskPrompt) -> Example:
    from palitune.data.images.io import read_size

    location = f"images: {name}"
    if prompt.task.single_image_only and len(images) > 1:
        raise DataError(multiple_images_message(location, len(images), prompt.task.name))
    sizes = [read_size(image) for image in images]
    return Example(
        id=name,
        images=tuple(images),
        size=sizes[0],
        prefix=prompt.prompt,
        suffixes=(),
        reference=(),
        location=location,
        component=prompt.task.name,
    )


def _expand_path(pattern: str) -> list[Path]:
    """Return an existing path, or the sorted images and folders that match a pattern."""
    path = Path(pattern).expanduser()
    try:
        if path.exists():
            return [path]
    except OSError as error:  # e.g. a name of more than 255 characters
        raise DataError(f"images: {pattern} cannot be read ({error.strerror}).") from error
    if "**" in path.parts:  # a link to a folder above it would be followed many times
        root = Path(*itertools.takewhile(lambda part: part != "**", path.parts))
        for folder in filter(os.path.isdir, glob.glob(str(root))):
            deque(walk_files(Path(folder)), 0)  # raises DataError
    paths = [Path(match) for match in glob.glob(str(path), recursive=True)]
    matches = sorted(match for match in paths if match.is_dir() or is_image(match))
    if not matches:
        raise DataError(f"images: {pattern} does not exist; use a folder, a file or a pattern")
    return matches
