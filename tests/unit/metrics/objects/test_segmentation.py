"""Masks judged: literals, RefCOCO's numbers by hand, COCO's numbers beside pycocotools."""

import contextlib
import copy
import io
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from palitune.codec import boxes
from palitune.metrics.objects.average_precision import STAT_NAMES
from palitune.metrics.objects.segmentation import ReferringSegmentation, Segmentation, mask_iou
from palitune.records import Example, Instance, Mask, Prediction

SIZE = (40, 20)
MASKS = st.integers(0, 2**32).map(lambda seed: np.random.default_rng(seed).random((5, 7)) < 0.5)
SEGS = "<seg001>" * 16


def region(x0: int, y0: int, x1: int, y1: int) -> Mask:
    mask = np.zeros((SIZE[1], SIZE[0]), dtype=bool)
    mask[y0:y1, x0:x1] = True
    return mask


def boat(x0: int, y0: int, x1: int, y1: int, label: str = "boat", **more: Any) -> Instance:
    return Instance(label, (x0, y0, x1, y1), mask=region(x0, y0, x1, y1), **more)


def an_example(reference: tuple[Instance, ...], name: str = "1") -> Example:
    return Example(
        id=name,
        images=("/harbour.png",),
        size=SIZE,
        prefix="segment boat",
        suffixes=("",),
        reference=reference,
        location="boats.json:1",
    )


def a_prediction(value: tuple[Instance, ...] | None, text: str = "") -> Prediction:
    return Prediction(id="1", text=text, value=value)


@pytest.mark.parametrize(
    ("a", "b", "iou"),
    [
        (region(0, 0, 10, 10), region(0, 0, 10, 10), 1),
        (region(0, 0, 10, 10), region(5, 0, 15, 10), 1 / 3),
        (region(0, 0, 10, 10), region(10, 0, 20, 10), 0),
        (region(0, 0, 0, 0), region(0, 0, 0, 0), 0),  # as LAVT: no union is 0
    ],
)
def test_mask_iou(a: Mask, b: Mask, iou: float) -> None:
    assert mask_iou(a, b) == pytest.approx(iou)
    assert mask_iou(b, a) == pytest.approx(iou)


@given(MASKS, MASKS)
def test_mask_iou_equals_pycocotools(a: Mask, b: Mask) -> None:
    rles = [coco_mask.encode(np.asfortranarray(m, dtype=np.uint8)) for m in (a, b)]
    assert mask_iou(a, b) == pytest.approx(coco_mask.iou(rles[:1], rles[1:], [0]).item())


def judged(*cases: tuple[Instance, tuple[Instance, ...] | None]) -> dict[str, float]:
    metric = ReferringSegmentation()
    for truth, value in cases:
        metric.update(an_example((truth,)), a_prediction(value))
    return metric.compute()


def test_the_mean_counts_examples_and_the_cumulative_iou_counts_pixels() -> None:
    small, large = boat(0, 0, 10, 1), boat(0, 0, 20, 20)
    numbers = judged((small, (small,)), (large, (boat(0, 0, 10, 20),)), (small, None))
    assert numbers["mean_iou"] == pytest.approx((1 + 0.5 + 0) / 3)
    assert numbers["cumulative_iou"] == pytest.approx((10 + 200) / (10 + 400 + 10))


def test_precision_counts_ious_from_the_threshold_on() -> None:
    truth = boat(0, 0, 10, 10)
    numbers = judged(*((truth, (boat(0, 0, width, 10),)) for width in (4, 5, 7, 8, 10)))
    expected = {".5": 0.8, ".6": 0.6, ".7": 0.6, ".8": 0.4, ".9": 0.2}
    for threshold, share in expected.items():
        assert numbers[f"precision@{threshold}"] == pytest.approx(share)


def test_boxes_are_judged_by_themselves() -> None:
    truth = boat(0, 0, 20, 20)
    no_mask_drawn = Instance("boat", (0, 0, 20, 16), mask=region(0, 0, 0, 0))
    half = Instance("boat", (0, 0, 10, 20), mask=truth.mask)
    numbers = judged((truth, (no_mask_drawn,)), (truth, (half,)), (truth, None))
    assert numbers["box_accuracy@.5"] == pytest.approx(2 / 3)
    assert numbers["box_accuracy@.75"] == pytest.approx(1 / 3)
    assert numbers["mean_iou"] == pytest.approx(1 / 3)


def test_only_the_first_object_is_judged() -> None:
    metric = ReferringSegmentation()
    truth, other = boat(0, 0, 10, 10), boat(20, 0, 30, 10)
    assert metric.update(an_example((truth,)), a_prediction((other, truth))) == {
        "iou": 0,
        "box_iou": 0,
    }
    assert metric.update(an_example((truth,)), a_prediction((truth, other)))["iou"] == 1


def test_what_the_metrics_cannot_judge_is_named() -> None:
    truth = boat(0, 0, 10, 10)
    with pytest.raises(TypeError, match="refers to 2 objects"):
        ReferringSegmentation().update(an_example((truth, truth)), a_prediction(()))
    for metric in (ReferringSegmentation(), Segmentation()):
        with pytest.raises(TypeError, match="object 'boat' has no mask"):
            metric.update(an_example((Instance("boat", (0, 0, 9, 9)),)), a_prediction(()))


def test_score_free_numbers_are_of_masks_and_not_of_boxes() -> None:
    box = (0, 0, 10, 10)
    truth = Instance("boat", box, mask=region(0, 0, 10, 5))
    found = Instance("boat", box, mask=region(0, 0, 10, 4))
    wrong = Instance("boat", box, mask=region(0, 5, 10, 10))
    metric = Segmentation()
    scores = metric.update(an_example((truth,)), a_prediction((wrong, found)))
    assert scores == {"mask_f1@.5": pytest.approx(2 / 3), "mask_iou": pytest.approx(0.8)}
    missed = metric.update(an_example((truth,), "2"), a_prediction((wrong,)))
    assert missed == {"mask_f1@.5": 0, "mask_iou": 0}
    assert metric.update(an_example((), "3"), a_prediction(())) == {"mask_f1@.5": 1}
    numbers = metric.compute()
    assert numbers["mask_precision@.5"] == pytest.approx(1 / 3)
    assert numbers["mask_recall@.5"] == pytest.approx(1 / 2)
    assert numbers["mask_f1@.5"] == pytest.approx(2 / 5)
    assert numbers["mask_iou"] == pytest.approx(0.4)
    assert numbers["mask_iou_matched"] == pytest.approx(0.8)


def test_a_guess_on_a_crowd_is_neither_found_nor_invented() -> None:
    metric = Segmentation()
    crowd = boat(0, 0, 20, 20, crowd=True)
    inside = (boat(0, 0, 4, 4), boat(18, 0, 22, 4))
    assert metric.update(an_example((crowd,)), a_prediction(inside)) == {"mask_f1@.5": 1}
    assert metric.statistics == [(0, 0, 0, 0, 0)]
    metric.update(an_example((crowd,), "2"), a_prediction((boat(19, 0, 23, 4),)))
    assert metric.statistics[1] == (0, 1, 0, 0, 0)


def test_fragments_that_cannot_be_read_are_averaged_over_examples() -> None:
    metric = Segmentation()
    truth = boat(0, 0, 10, 10)
    good = boxes.encode([truth], SIZE, shapes=[SEGS])
    only_a_box = boxes.encode([truth], SIZE)
    for name, text in enumerate([good, f"{good} ; {only_a_box} ; <loc0001>", "no boats", ""]):
        metric.update(an_example((truth,), str(name)), a_prediction(None, text))
    assert metric.compute()["malformed_objects"] == pytest.approx(3 / 4)


def random_scenes(seed: int) -> list[tuple[tuple[Instance, ...], tuple[Instance, ...]]]:
    """References and predictions of some images: shaken copies, noise, crowds, a class too many."""
    random = np.random.default_rng(seed)

    def some(label: str, **more: Any) -> Instance:
        x, y = (int(random.integers(0, side - 4)) for side in SIZE)
        return boat(x, y, x + int(random.integers(3, 25)), y + int(random.integers(3, 15)), label)

    scenes = []
    for _ in range(15):
        truths = [some(f"class {random.integers(3)}") for _ in range(random.integers(0, 5))]
        shaken = []
        for truth in truths:
            assert truth.mask is not None
            mask = np.roll(truth.mask, tuple(random.integers(-2, 3, 2)), (0, 1))
            shaken.append(Instance(truth.label, truth.box, mask=mask, score=random.random()))
        noise = [some(f"class {random.integers(4)}") for _ in range(random.integers(0, 4))]
        guesses = shaken + [
            Instance(i.label, i.box, mask=i.mask, score=random.random()) for i in noise
        ]
        crowds = [random.random() < 0.2 for _ in truths]
        marked = [
            Instance(i.label, i.box, mask=i.mask, crowd=c)
            for i, c in zip(truths, crowds, strict=True)
        ]
        scenes.append((tuple(marked), tuple(guesses)))
    return scenes


def pycocotools_numbers(
    scenes: list[tuple[tuple[Instance, ...], tuple[Instance, ...]]],
) -> list[float]:
    def entry(image: int, instance: Instance) -> dict[str, Any]:
        assert instance.mask is not None
        rle = coco_mask.encode(np.asfortranarray(instance.mask, dtype=np.uint8))
        category = int(instance.label.split()[1]) + 1
        return {"image_id": image, "category_id": category, "segmentation": rle}

    annotations, results = [], []
    for image, (truths, guesses) in enumerate(scenes, start=1):
        for truth in truths:
            written = entry(image, truth)
            annotations.append(
                written
                | {"id": len(annotations) + 1, "iscrowd": int(truth.crowd), "bbox": [0, 0, 1, 1]}
                | {"area": int(coco_mask.area(written["segmentation"]))}
            )
        results += [entry(image, guess) | {"score": guess.score} for guess in guesses]
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO()
        reference.dataset = {
            "images": [{"id": n + 1, "height": SIZE[1], "width": SIZE[0]} for n in range(15)],
            "categories": [{"id": n + 1, "name": f"class {n}"} for n in range(3)],
            "annotations": annotations,
        }
        reference.createIndex()
        found = reference.loadRes(copy.deepcopy(results))
        evaluation = COCOeval(reference, found, "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [math.nan if value == -1 else value for value in evaluation.stats]


@pytest.mark.parametrize("seed", range(4))
def test_coco_numbers_equal_pycocotools_in_any_order_of_images(seed: int) -> None:
    scenes = random_scenes(seed)
    numbers = []
    for step in (1, -1):
        metric = Segmentation()
        for number, (truths, guesses) in list(enumerate(scenes))[::step]:
            metric.update(an_example(truths, f"{number:02d}"), a_prediction(guesses))
        computed = metric.compute()
        numbers.append([computed[f"mask_{name}"] for name in STAT_NAMES])
    assert numbers[0] == pytest.approx(pycocotools_numbers(scenes), abs=1e-9, nan_ok=True)
    assert numbers[1] == pytest.approx(numbers[0], nan_ok=True)


def test_the_accumulator_keeps_run_lengths_and_not_pixels() -> None:
    metric = Segmentation()
    metric.update(an_example((boat(0, 0, 9, 9),)), a_prediction((boat(0, 0, 9, 9),)))
    assert not any(
        isinstance(value, np.ndarray)
        for judged_example in metric.examples
        for entries in (judged_example.reference, judged_example.predicted)
        for entry in entries
        for value in entry.values()
    )
