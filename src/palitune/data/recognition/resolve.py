"""The settings that read a recognized folder, or the sentence about one that is not."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from palitune.data.recognition.layouts import FORMAT_NAMES, Layout, recognize, split_of
from palitune.data.recognition.listing import Listing, list_folder
from palitune.data.registry import SOURCES
from palitune.data.sources.base import Source
from palitune.errors import DataError
from palitune.tasks import TASKS

_VALIDATION_FRACTIONS = ((100, 0.1), (20, 0.2), (0, 0.5))
"""Share of the images that is held out, by the least number of images: so many that few images
leave no empty validation split."""


@dataclass(frozen=True)
class RecognizedFolder:
    """A folder with the settings that read it."""

    description: str
    settings: tuple[str, ...]
    """KEY=VALUE of the command line, not yet quoted: data, task and what they require."""


def recognize_folder(
    folder: str, data: str | None = None, task: str | None = None
) -> RecognizedFolder:
    """Return the settings that read a folder, or a file of annotations.

    Args:
        folder: The path.
        data: Format that the user chose; None: any.
        task: Task that the user chose; None: the one that the data fits.

    Raises:
        DataError: The folder fits no format, or several; the text lists what it holds.
    """
    path = Path(folder).expanduser()
    if not path.exists():
        raise DataError(f"{folder} does not exist. Give the folder of the data.")
    listing = list_folder(path)
    layout = choose_layout(folder, recognize(listing), listing, data, task)
    chosen = task or layout.tasks[0]
    settings = [f"data={layout.data}", f"data.path={folder}"]
    splits = _splits(path, layout, chosen)
    settings += [f"data.splits.{split}={file}" for split, file in splits.items() if file]
    settings += [text for text in layout.settings if text.startswith("data.")]
    names = ", ".join(splits) or "those of the folder"
    if layout.data != "hub" and not {"validation", "test"} & splits.keys():
        fraction = _validation_fraction(len(listing.images))
        settings.append(f"data.validation_fraction={fraction}")
        names += f", validation ({fraction:.0%} of its images)"
    settings.append(f"task={chosen}")
    if layout.tasks and chosen == layout.tasks[0]:
        settings += [text for text in layout.settings if text.startswith("task.")]
    description = f"{folder}: {layout.describe()}, splits: {names}, task: {chosen}"
    if layout.also and task is None:
        description += f" (the outlines fit task={layout.also}, too)"
    return RecognizedFolder(description, tuple(settings))


def choose_layout(
    folder: str,
    layouts: Sequence[Layout],
    listing: Listing,
    data: str | None = None,
    task: str | None = None,
) -> Layout:
    """Return the one layout that fits. Raises DataError if there is none, or several.

    Args:
        folder: The path, for messages.
        layouts: Every format that the folder fits.
        listing: Files of the folder, for the message if it fits no format.
        data: Format that the user chose.
        task: Task that the user chose.
    """
    fitting = [layout for layout in layouts if data in (None, layout.data)]
    if task is not None:
        fitting = [x for x in fitting if task in x.tasks or task == x.also] or fitting
    fitting = [layout for layout in fitting if not layout.missing] or fitting
    if not fitting and layouts and data in FORMAT_NAMES:
        raise DataError(_other_format_message(folder, str(data), layouts))
    if not fitting:
        raise DataError(_unrecognized_message(folder, listing, data))
    if len(fitting) > 1:
        found = "; ".join(f"{x.describe()}: data={x.data}" for x in fitting)
        raise DataError(f"{folder} holds several formats: {found}. Add one of these settings.")
    [layout] = fitting
    if layout.missing:
        raise DataError(f"{folder} looks like {layout.describe()}. {layout.missing}")
    if task is None and len(layout.tasks) != 1:
        options = " or ".join(f"task={name}" for name in layout.tasks or TASKS)
        raise DataError(
            f"{folder} is {layout.describe()}, but its task is not clear. Add {options}."
        )
    return layout


def _unrecognized_message(folder: str, listing: Listing, data: str | None) -> str:
    suffixes = Counter(PurePosixPath(name).suffix.lower() or "(none)" for name in listing.files)
    counts = ", ".join(f"{count} {suffix}" for suffix, count in suffixes.most_common(5))
    wanted = FORMAT_NAMES.get(data, data) if data else "any known format"
    return (
        f"{folder} does not look like {wanted}: it holds "
        f"{f'files of these kinds: {counts}' if counts else 'no files'}. Needed are annotations, "
        "e.g. COCO (*.json), YOLO (data.yaml), Pascal VOC (*.xml), JSON lines (train.jsonl) or "
        "CSV; or set data=NAME and data.splits.train=FILE."
    )


def _splits(path: Path, layout: Layout, task: str) -> dict[str, str]:
    """Return the splits of a layout, each with the file to set; empty if it is found by itself."""
    source: Any = SOURCES[layout.data](path=str(path))  # type: ignore[call-arg]
    assert isinstance(source, Source)
    if layout.data == "hub":
        return {}
    source = source.for_task(TASKS[task]())
    splits = dict.fromkeys(source.available_splits(), "")
    if path.is_file() or "train" in splits:
        return splits or {"train": ""}
    if not layout.split_files:
        common = os.path.commonpath([str(PurePosixPath(name).parent) for name in layout.files])
        folder = next((f for f in (common, str(PurePosixPath(common).parent)) if f), ".")
        return {"train": folder, **splits} if source.accepts_folders else splits
    by_split: dict[str, list[str]] = {}
    for name in layout.files:
        by_split.setdefault(split_of(name) or "train", []).append(name)
    for split, files in by_split.items():
        if len(files) > 1 and split not in splits:
            raise DataError(
                f"{path}: split {split!r} must be one file, got {', '.join(sorted(files)[:5])}. "
                f"Choose one with data.splits.{split}=FILE."
            )
    return {**{split: files[0] for split, files in by_split.items()}, **splits}


def _validation_fraction(num_images: int) -> float:
    """Return the share of the images to hold out; a tenth if the images lie elsewhere."""
    if not num_images:
        return 0.1
    return next(share for least, share in _VALIDATION_FRACTIONS if num_images >= least)


def with_format_hint(error: DataError, source: Source) -> DataError:
    """Return an error about a missing file with the format that the folder has instead."""
    path = source.resolved_path()
    if source.name not in FORMAT_NAMES or not path.exists():
        return error
    others = recognize(list_folder(path))
    if not others or source.name in {layout.data for layout in others}:
        return error
    return DataError(_other_format_message(str(path), source.name, others))


def _other_format_message(folder: str, data: str, others: Sequence[Layout]) -> str:
    found = " and ".join(layout.describe() for layout in others[:2])
    settings = " or ".join(f"data={layout.data}" for layout in others[:2])
    return f"{folder} is not {FORMAT_NAMES[data]}: it holds {found}. Set {settings}."


def check_format(file: Path, source: Source) -> None:
    """Raise DataError if an annotation file is of another format than that of its source."""
    if source.name not in FORMAT_NAMES or not file.is_file():
        return
    layouts = recognize(list_folder(file))
    if layouts and source.name not in {layout.data for layout in layouts}:
        name = layouts[0].data
        raise DataError(
            f"{file}: file must be {FORMAT_NAMES[source.name]}, got {FORMAT_NAMES[name]}. Set "
            f"data={name}."
        )
