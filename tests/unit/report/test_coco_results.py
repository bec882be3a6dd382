"""COCO result files with their image and category ids."""

import json
from pathlib import Path

import numpy as np

from palitune.records import Example, Instance, mask_from_json
from palitune.report.coco_results import CocoResults

MASK = np.zeros((10, 20), bool)
MASK[2:5, 3:9] = True


def example(name: str) -> Example:
    return Example(
        id=name, images=(name,), size=(20, 10), prefix="", suffixes=(), reference=(), location=name
    )


def test_images_and_categories_are_numbered_in_order(tmp_path: Path) -> None:
    results = CocoResults()
    results.add_categories(["boat", "buoy"])
    results.add(example("a.png"), [Instance("cow", (1, 2, 11, 8), score=0.25)])
    results.add(example("b.png"), [])
    results.add(example("c.png"), [Instance("buoy", (3, 2, 9, 5), MASK)])
    results.write(tmp_path)
    annotations = json.loads((tmp_path / "coco_images.json").read_text())
    assert [c["name"] for c in annotations["categories"]] == ["boat", "buoy", "cow"]
    assert [(i["id"], i["file_name"]) for i in annotations["images"]] == [
        (1, "a.png"), (2, "b.png"), (3, "c.png"),
    ]  # fmt: skip
    first, second = json.loads((tmp_path / "coco_results.json").read_text())
    assert first == {"image_id": 1, "category_id": 3, "bbox": [1, 2, 10, 6], "score": 0.25}
    assert (second["image_id"], second["category_id"], second["score"]) == (3, 2, 1.0)
    assert np.array_equal(mask_from_json(second["segmentation"]), MASK)


def test_labels_that_are_no_classes_share_one_category() -> None:
    results = CocoResults(category="text_spotting")
    results.add(example("a.png"), [Instance("hello", (0, 0, 1, 1)), Instance("you", (2, 2, 3, 3))])
    assert results.categories == {"text_spotting": 1}
    assert {result["category_id"] for result in results.results} == {1}
