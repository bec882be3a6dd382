"""Numbers of other sets of images, out of matches made once."""

import math
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from palitune.metrics.objects.average_precision import STAT_NAMES
from palitune.metrics.objects.coco_matching import CocoMatches
from palitune.metrics.objects.detection import coco_ap

Coco = tuple[dict[str, Any], list[dict[str, Any]]]


def random_set(seed: int, images: int = 12) -> Coco:
    random = np.random.default_rng(seed)
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for image in range(1, images + 1):
        for _ in range(random.integers(0, 6)):
            box = [*random.uniform(0, 300, 2).tolist(), *random.uniform(5, 150, 2).tolist()]
            one = {"image_id": image, "category_id": int(random.integers(1, 4)), "bbox": box}
            crowd = int(random.random() < 0.2)
            annotations.append(one | {"id": len(annotations) + 1, "iscrowd": crowd})
            for _ in range(random.integers(0, 3)):
                shaken = [v + float(random.normal(0, 5)) for v in box[:2]] + box[2:]
                results.append(one | {"bbox": shaken, "score": float(random.random())})
    ground_truth = {
        "images": [{"id": image, "width": 500, "height": 500} for image in range(1, images + 1)],
        "categories": [{"id": index, "name": f"class {index}"} for index in (1, 2, 3)],
        "annotations": annotations,
    }
    return ground_truth, results


def repeated(coco: Coco, times: list[int]) -> Coco:
    """Write the data set in which each image stands so many times, as images of their own."""
    ground_truth, results = coco
    copies = [(image, f"{image:03}-{n}") for image, k in enumerate(times, 1) for n in range(k)]
    return ground_truth | {
        "images": [{"id": name} for _, name in copies],
        "annotations": [
            entry | {"image_id": name}
            for image, name in copies
            for entry in ground_truth["annotations"]
            if entry["image_id"] == image
        ],
    }, [r | {"image_id": name} for image, name in copies for r in results if r["image_id"] == image]


@pytest.mark.parametrize("seed", range(5))
def test_a_set_of_some_images_scores_as_if_there_were_no_others(seed: int) -> None:
    coco = random_set(seed)
    times = np.random.default_rng(seed).integers(0, 2, 12).tolist()
    found = CocoMatches(*coco).compute(np.array([times], float))
    expected = coco_ap(*repeated(coco, times))
    assert {n: float(v[0]) for n, v in found.items()} == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("seed", range(5))
def test_an_image_drawn_twice_scores_as_two_images(seed: int) -> None:
    coco = random_set(seed)
    times = np.random.default_rng(seed).integers(0, 4, 12).tolist()
    found = CocoMatches(*coco).compute(np.array([times], float))
    expected = coco_ap(*repeated(coco, times))
    assert {n: float(v[0]) for n, v in found.items()} == pytest.approx(
        expected, abs=1e-9, nan_ok=True
    )


def test_many_sets_at_once_are_each_by_itself() -> None:
    matches = CocoMatches(*random_set(9))
    counts = np.random.default_rng(0).integers(0, 3, (7, 12)).astype(float)
    together = matches.compute(counts)
    for row in range(7):
        alone = matches.compute(counts[row : row + 1])
        for name in STAT_NAMES:
            assert together[name][row] == pytest.approx(alone[name][0], nan_ok=True)


def test_a_set_without_objects_is_nan() -> None:
    matches = CocoMatches(*random_set(3))
    assert all(math.isnan(v[0]) for v in matches.compute(np.zeros((1, 12))).values())


def test_polygons_and_run_lengths_of_any_form_are_the_same_mask() -> None:
    polygon = [[10, 10, 60, 10, 60, 50, 10, 50]]
    packed = coco_mask.merge(coco_mask.frPyObjects(polygon, 100, 120))
    mask = coco_mask.decode(packed)
    runs = np.diff(np.flatnonzero(np.diff(mask.ravel(order="F"), prepend=0, append=0)), prepend=0)
    counts = [*runs.tolist(), mask.size - int(runs.sum())]
    forms: list[Any] = [polygon, packed, {"size": [100, 120], "counts": counts}]
    forms.append({"size": [100, 120], "counts": packed["counts"].decode()})
    for outline in forms:
        one = {"image_id": 1, "category_id": 1, "segmentation": outline}
        truth = one | {"id": 1, "area": float(mask.sum()), "iscrowd": 0, "bbox": [10, 10, 50, 40]}
        ground_truth = {
            "images": [{"id": 1, "height": 100, "width": 120}],
            "categories": [{"id": 1, "name": "boat"}],
            "annotations": [truth],
        }
        guess = one | {"segmentation": packed, "score": 0.5}
        assert coco_ap(ground_truth, [guess], kind="segm")["AP"] == pytest.approx(1)
