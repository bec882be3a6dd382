"""Predictions in the form of COCO's result files, with the numbers that they speak of."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from palitune.records import Example, Instance, mask_to_json

RESULTS_FILE = "coco_results.json"
"""What pycocotools' `loadRes` takes."""
IMAGES_FILE = "coco_images.json"
"""What the numbers in it mean: images and categories, in the form of COCO's annotation files."""


@dataclass
class CocoResults:
    """Gather predictions; images and categories are numbered from 1 as they come."""

    category: str | None = None
    """The one category of all objects; None: their label is it."""
    categories: dict[str, int] = field(default_factory=dict)
    images: list[dict[str, Any]] = field(default_factory=list)
    results: list[dict[str, Any]] = field(default_factory=list)

    def add_categories(self, names: Iterable[str]) -> None:
        """Number categories in this order, found or not."""
        for name in names:
            self.categories.setdefault(name, len(self.categories) + 1)

    def add(self, example: Example, instances: Iterable[Instance]) -> None:
        """Take in the objects of one image."""
        width, height = example.size
        number = len(self.images) + 1
        self.images.append(
            {"id": number, "file_name": example.id, "width": width, "height": height}
        )
        for instance in instances:
            name = instance.label if self.category is None else self.category
            self.add_categories([name])
            self.results.append(_to_coco_result(instance, number, self.categories[name]))

    def write(self, folder: Path) -> None:
        """Write both files."""
        categories = [{"id": number, "name": name} for name, number in self.categories.items()]
        explained = {"images": self.images, "categories": categories, "annotations": []}
        for name, content in ((RESULTS_FILE, self.results), (IMAGES_FILE, explained)):
            text = json.dumps(content, ensure_ascii=False)
            (folder / name).write_text(text, encoding="utf-8")


def _to_coco_result(instance: Instance, image_id: int, category_id: int) -> dict[str, Any]:
    x0, y0, x1, y1 = instance.box
    written: dict[str, Any] = {
        "image_id": image_id,
        "category_id": category_id,
        "bbox": [round(side, 2) for side in (x0, y0, x1 - x0, y1 - y0)],
        "score": 1.0 if instance.score is None else round(instance.score, 6),
    }
    if instance.mask is not None:
        written["segmentation"] = mask_to_json(instance.mask)
    return written
