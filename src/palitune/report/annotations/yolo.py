"""Pre-annotations as text files of YOLO."""

from collections.abc import Sequence
from pathlib import Path

import yaml  # type: ignore[import-untyped]

from palitune.codec.outlines import mask_outlines
from palitune.records import Example, Instance, Size, Value
from palitune.report.annotations.files import annotation_path


def write_yolo(
    folder: Path, predictions: Sequence[tuple[Example, Value]], classes: Sequence[str], _: str
) -> None:
    """Write `data.yaml` and a file per image: class, then box or polygon relative to the image.

    The files in `labels_with_scores/` have the score in an additional last column, as those of
    Ultralytics' `save_conf`. The mask of an object is its longest outline.
    """
    ids = {name: number for number, name in enumerate(classes)}
    names = {number: name for name, number in ids.items()}
    content = {"path": ".", "train": "images", "val": "images", "names": names}
    text = yaml.safe_dump(content, allow_unicode=True, sort_keys=False)
    (folder / "data.yaml").write_text(text, encoding="utf-8")
    for example, value in predictions:
        lines, scored = [], []
        for instance in value:
            assert not isinstance(instance, str)
            numbers = " ".join(f"{n:.6f}" for n in _relative_shape(instance, example.size))
            lines.append(f"{ids[instance.label]} {numbers}\n")
            score = 1.0 if instance.score is None else instance.score
            scored.append(f"{ids[instance.label]} {numbers} {score:.6f}\n")
        for name, rows in (("labels", lines), ("labels_with_scores", scored)):
            file = annotation_path(folder / name, example.id, ".txt")
            file.write_text("".join(rows), encoding="utf-8")


def _relative_shape(instance: Instance, size: Size) -> list[float]:
    """Return center and size of the box, or the points of the outline, in [0, 1]."""
    outlines = [] if instance.mask is None else mask_outlines(instance.mask)
    if outlines:
        return (outlines[0] / size).flatten().tolist()
    (x0, y0, x1, y1), (width, height) = instance.box, size
    center = (x0 + x1) / 2 / width, (y0 + y1) / 2 / height
    return [*center, (x1 - x0) / width, (y1 - y0) / height]
