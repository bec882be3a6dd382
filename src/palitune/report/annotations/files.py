"""Names of the annotation files beside images."""

from collections.abc import Iterable
from pathlib import Path

from palitune.errors import DataError


def annotation_path(folder: Path, image_name: str, suffix: str) -> Path:
    """Return the annotation file of an image; its folder is created."""
    file = (folder / image_name).with_suffix(suffix)
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


def check_distinct(image_names: Iterable[str]) -> None:
    """Raise DataError if two images would have one annotation file, as a.jpg and a.png."""
    names: dict[Path, str] = {}
    for name in image_names:
        if (other := names.setdefault(Path(name).with_suffix(""), name)) != name:
            raise DataError(
                f"images must have different names without their extensions for save=[yolo] and "
                f"save=[voc], got {other} and {name}. Rename one, or set save=[coco]."
            )
