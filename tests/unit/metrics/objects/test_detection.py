"""COCO's numbers beside pycocotools, and the score-free ones against literals."""

import contextlib
import copy
import io
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from palitune.codec import boxes
from palitune.metrics.objects.average_precision import STAT_NAMES
from palitune.metrics.objects.detection import DetectionAP, coco_ap
from palitune.records import Example, Instance, Prediction

Coco = tuple[dict[str, Any], list[dict[str, Any]]]


def pycocotools_numbers(ground_truth: dict[str, Any], results: list[Any], kind: str) -> list[float]:
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO()
        reference.dataset = copy.deepcopy(ground_truth)
        reference.createIndex()
        evaluation = COCOeval(reference, reference.loadRes(copy.deepcopy(results)), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [math.nan if value == -1 else value for value in evaluation.stats]


def random_set(
    seed: int,
    *,
    images: int = 12,
    classes: int = 3,
    objects: int = 6,
    guesses: int = 8,
    crowd: float = 0.0,
    score: Callable[[np.random.Generator], float] = lambda random: float(random.random()),
) -> Coco:
    """A ground truth with some empty images, and results: shaken copies of it, and noise.

    The results name one class more than the ground truth has.
    """
    random = np.random.default_rng(seed)

    def box() -> list[float]:
        corner, side = random.uniform(0, 300, 2), random.uniform(5, 180, 2)
        return [float(v) for v in (*corner, *side)]

    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for image in range(1, images + 1):
        for _ in range(random.integers(0, objects + 1)):
            x, y, w, h = box()
            category, iscrowd = int(random.integers(1, classes + 1)), int(random.random() < crowd)
            place = {"image_id": image, "category_id": category}
            annotations.append(
                place
                | {"id": len(annotations) + 1, "bbox": [x, y, w, h], "area": w * h}
                | {"iscrowd": iscrowd}
            )
            for _ in range(random.integers(0, 3)):
                shaken = [float(v + random.normal(0, 4)) for v in (x, y)]
                results.append(place | {"bbox": [*shaken, w, h], "score": score(random)})
        for _ in range(random.integers(0, guesses + 1)):
            category = int(random.integers(1, classes + 2))
            results.append({"image_id": image, "category_id": category, "bbox": box()})
            results[-1]["score"] = score(random)
    ground_truth = {
        "images": [{"id": image, "width": 500, "height": 500} for image in range(1, images + 1)],
        "categories": [{"id": index, "name": f"class {index}"} for index in range(1, classes + 1)],
        "annotations": annotations,
    }
    return ground_truth, results


SETS: dict[str, Callable[[int], Coco]] = {
    "plain": random_set,
    "crowd": lambda seed: random_set(seed, crowd=0.4),
    "ties": lambda seed: random_set(seed, score=lambda random: round(float(random.random()), 1)),
    "all scores one": lambda seed: random_set(seed, crowd=0.2, score=lambda _: 1.0),
    "more than 100 detections": lambda seed: random_set(
        seed, images=3, classes=1, objects=30, guesses=200
    ),
    "one image": lambda seed: random_set(seed, images=1),
    "negative scores": lambda seed: random_set(seed, score=lambda random: float(random.normal())),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", SETS)
def test_the_twelve_numbers_equal_pycocotools(name: str, seed: int) -> None:
    ground_truth, results = SETS[name](seed)
    expected = pycocotools_numbers(ground_truth, results, "bbox")
    numbers = coco_ap(ground_truth, results)
    assert list(numbers) == list(STAT_NAMES)
    assert list(numbers.values()) == pytest.approx(expected, abs=1e-9, nan_ok=True)


def with_masks(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    masked = []
    for entry in entries:
        mask = np.zeros((500, 500), dtype=np.uint8, order="F")
        x, y, w, h = (max(0, int(v)) for v in entry["bbox"])
        mask[y : y + h, x : x + w] = 1
        mask[y : y + h // 2, x : x + w // 3] = 0
        masked.append(entry | {"segmentation": coco_mask.encode(mask), "area": float(mask.sum())})
    return masked


def test_mask_numbers_equal_pycocotools() -> None:
    ground_truth, results = random_set(5, images=4, crowd=0.2)
    ground_truth["annotations"] = with_masks(ground_truth["annotations"])
    results = with_masks(results)
    expected = pycocotools_numbers(ground_truth, results, "segm")
    numbers = coco_ap(ground_truth, results, kind="segm")
    assert list(numbers.values()) == pytest.approx(expected, abs=1e-9, nan_ok=True)


def test_no_result_scores_zero_and_no_ground_truth_is_nan() -> None:
    ground_truth, results = random_set(0)
    numbers = coco_ap(ground_truth, [])
    assert numbers["AP"] == numbers["AR100"] == 0
    for found in (results, []):
        empty = coco_ap(ground_truth | {"annotations": []}, found)
        assert all(math.isnan(value) for value in empty.values())


def test_inputs_stay_as_they_are_and_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    ground_truth, results = random_set(1, crowd=0.3)
    before = copy.deepcopy((ground_truth, results))
    coco_ap(ground_truth, results)
    assert (ground_truth, results) == before
    assert capfd.readouterr() == ("", "")


def test_annotations_numbered_from_zero_lose_none() -> None:
    ground_truth, results = random_set(2)
    shifted = [entry | {"id": entry["id"] - 1} for entry in ground_truth["annotations"]]
    assert coco_ap(ground_truth | {"annotations": shifted}, results) == pytest.approx(
        coco_ap(ground_truth, results), nan_ok=True
    )


def test_a_result_for_an_unknown_image_is_refused() -> None:
    ground_truth, results = random_set(3)
    with pytest.raises(
        ValueError, match="results contain image 99, which is not in the ground truth"
    ):
        coco_ap(ground_truth, [*results, results[0] | {"image_id": 99}])


def as_instances(entries: list[dict[str, Any]], image: int) -> tuple[Instance, ...]:
    return tuple(
        Instance(
            label=f"class {entry['category_id']}",
            box=(x, y, x + w, y + h),
            score=entry.get("score"),
            crowd=bool(entry.get("iscrowd", 0)),
        )
        for entry in entries
        if entry["image_id"] == image
        for x, y, w, h in [entry["bbox"]]
    )


def judge(ground_truth: dict[str, Any], results: list[Any], order: list[int]) -> dict[str, float]:
    metric = DetectionAP()
    for image in order:
        metric.update(
            an_example(str(image), as_instances(ground_truth["annotations"], image)),
            Prediction(id=str(image), text="", value=as_instances(results, image)),
        )
    return metric.compute()


def an_example(name: str, reference: tuple[Instance, ...]) -> Example:
    return Example(
        id=name,
        images=("/harbour.png",),
        size=(100, 100),
        prefix="detect boat",
        suffixes=("",),
        reference=reference,
        location="boats.json:1",
    )


@pytest.mark.parametrize("name", ["crowd", "all scores one"])
def test_the_accumulator_equals_pycocotools_in_any_order_of_images(name: str) -> None:
    ground_truth, results = SETS[name](7)
    order = list(range(1, 13))
    numbers = judge(ground_truth, results, order)
    expected = pycocotools_numbers(ground_truth, results, "bbox")
    given = [numbers[key] for key in STAT_NAMES]
    assert given == pytest.approx(expected, abs=1e-9, nan_ok=True)
    assert judge(ground_truth, results, order[::-1]) == pytest.approx(numbers, nan_ok=True)


def test_an_object_without_score_counts_one_and_keeps_its_place() -> None:
    truth = (boat(0, 0, 40, 40),)
    right, wrong = boat(0, 0, 40, 40), boat(60, 60, 90, 90)
    for guesses, ap in (((right, wrong), 1.0), ((wrong, right), 0.5)):
        metric = DetectionAP()
        metric.update(an_example("1", truth), Prediction(id="1", text="", value=guesses))
        assert metric.compute()["AP50"] == pytest.approx(ap, abs=1e-6)


def boat(x0: float, y0: float, x1: float, y1: float, **more: Any) -> Instance:
    return Instance(more.pop("label", "boat"), (x0, y0, x1, y1), **more)


def test_score_free_numbers_count_all_classes_and_images_together() -> None:
    metric = DetectionAP()
    cases = [
        ((boat(0, 0, 10, 10), boat(20, 20, 30, 30)), (boat(0, 0, 10, 10),), 2 / 3),
        ((), (), 1.0),
        ((), (boat(0, 0, 9, 9, label="whale"),), 0.0),  # a class that no reference has
        ((boat(0, 0, 9, 9, label="buoy"),), None, 0.0),
    ]
    for number, (reference, value, f1) in enumerate(cases):
        example = an_example(str(number), reference)
        scores = metric.update(example, Prediction(id=str(number), text="", value=value))
        assert scores == {"f1@.5": pytest.approx(f1)}
    numbers = metric.compute()
    assert numbers["precision@.5"] == pytest.approx(1 / 2)
    assert numbers["recall@.5"] == pytest.approx(1 / 3)
    assert numbers["f1@.5"] == pytest.approx(2 / 5)


def test_precision_of_no_guess_is_undefined() -> None:
    metric = DetectionAP()
    reference = (boat(0, 0, 10, 10),)
    metric.update(an_example("1", reference), Prediction(id="1", text="", value=()))
    numbers = metric.compute()
    assert math.isnan(numbers["precision@.5"])
    assert numbers["recall@.5"] == numbers["f1@.5"] == numbers["AP"] == 0


def test_fragments_that_cannot_be_read_are_averaged_over_examples() -> None:
    metric = DetectionAP()
    reference = (boat(0, 0, 10, 10),)
    good = boxes.encode(reference, (100, 100))
    for number, text in enumerate([good, f"{good} ; <loc0001> ; <loc9999>", "no boats here", ""]):
        metric.update(
            an_example(str(number), reference), Prediction(id=str(number), text=text, value=None)
        )
    assert metric.compute()["malformed_objects"] == pytest.approx(3 / 4)


def test_the_area_of_an_object_is_that_of_its_mask_where_known() -> None:
    mask = np.zeros((100, 100), dtype=bool)
    mask[:10, :10] = True
    truth = boat(0, 0, 90, 90, mask=mask)
    metric = DetectionAP()
    metric.update(
        an_example("1", (truth,)), Prediction(id="1", text="", value=(boat(0, 0, 90, 90),))
    )
    numbers = metric.compute()
    assert numbers["ARs"] == 1
    assert math.isnan(numbers["ARm"])
