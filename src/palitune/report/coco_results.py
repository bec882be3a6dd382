"""Predictions as COCO result files, with their image and category ids."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from palitune.codec.parsing import format_json
from palitune.records import Example, Instance, mask_to_json

RESULTS_FILE = "coco_results.json"
"""Input of pycocotools' `loadRes`."""
IMAGES_FILE = "coco_images.json"
"""Images and categories of the ids, in the format of COCO annotation files."""


@dataclass
class CocoResults:
    """Collected predictions; image and category ids count from 1 in the order of addition."""

    category: str | None = None
    """Category of all objects; None: the label of each object."""
    categories: dict[str, int] = field(default_factory=dict)
    images: list[dict[str, Any]] = field(default_factory=list)
    results: list[dict[str, Any]] = field(default_factory=list)

    def add_categories(self, names: Iterable[str]) -> None:
        """Assign ids to categories in this order, also without an object."""
        for name in names:
            self.categories.setdefault(name, len(self.categories) + 1)

    def add(self, example: Example, instances: Iterable[Instance]) -> None:
        """Add the objects of one image."""
        width, height = example.size
        image_id = len(self.images) + 1
        self.images.append(
            {"id": image_id, "file_name": example.id, "width": width, "height": height}
        )
        for instance in instances:
            name = instance.label if self.category is None else self.category
            self.add_categories([name])
            self.results.append(_to_coco_result(instance, image_id, self.categories[name]))

    def write(self, folder: Path) -> None:
        """Write `coco_results.json` and `coco_images.json`."""
        categories = [{"id": number, "name": name} for name, number in self.categories.items()]
        annotations = {"images": self.images, "categories": categories, "annotations": []}
        for name, content in ((RESULTS_FILE, self.results), (IMAGES_FILE, annotations)):
            text = format_json(content)
            (folder / name).write_text(text, encoding="utf-8")


def _to_coco_result(instance: Instance, image_id: int, category_id: int) -> dict[str, Any]:
    x0, y0, x1, y1 = instance.box
    result: dict[str, Any] = {
        "image_id": image_id,
        "category_id": category_id,
        "bbox": [round(side, 2) for side in (x0, y0, x1 - x0, y1 - y0)],
        "score": 1.0 if instance.score is None else round(instance.score, 6),
    }
    if instance.mask is not None:
        result["segmentation"] = mask_to_json(instance.mask)
    return result
