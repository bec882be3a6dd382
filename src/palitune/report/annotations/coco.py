"""Pre-annotations as a COCO annotation file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from palitune.records import Example, Value, mask_to_json
from palitune.report.run_writer import write_json


def write_coco(
    folder: Path, predictions: Sequence[tuple[Example, Value]], classes: Sequence[str], _: str
) -> None:
    """Write `annotations.json`: images, categories, and annotations with `score`."""
    ids = {name: number for number, name in enumerate(classes, 1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (example, value) in enumerate(predictions, 1):
        width, height = example.size
        images.append({"id": number, "file_name": example.id, "width": width, "height": height})
        for instance in value:
            assert not isinstance(instance, str)
            x0, y0, x1, y1 = instance.box
            annotation: dict[str, Any] = {
                "id": len(annotations) + 1,
                "image_id": number,
                "category_id": ids[instance.label],
                "bbox": [round(side, 2) for side in (x0, y0, x1 - x0, y1 - y0)],
                "area": round((x1 - x0) * (y1 - y0), 2),
                "iscrowd": 0,
            }
            if instance.mask is not None:
                annotation["segmentation"] = mask_to_json(instance.mask)
                annotation["area"] = int(instance.mask.sum())
            if instance.score is not None:
                annotation["score"] = round(instance.score, 6)
            annotations.append(annotation)
    categories = [{"id": number, "name": name} for name, number in ids.items()]
    content = {"images": images, "categories": categories, "annotations": annotations}
    write_json(folder / "annotations.json", content)
