"""Numbers by class and size: those of the objects alone."""

import math

import numpy as np
import pytest

from palitune.metrics.objects.average_precision import AREA_RANGES
from palitune.metrics.objects.detection import DetectionAP
from palitune.metrics.objects.per_class import SIZE_CATEGORIES, size_category
from palitune.metrics.objects.segmentation import Segmentation
from palitune.records import Example, Instance, Prediction

from support.toy_data import toy_mask

SMALL, MEDIUM, LARGE = SIZE_CATEGORIES
BOXES = {"boat": (10.0, 10.0, 60.0, 60.0), "buoy": (70.0, 10.0, 90.0, 40.0)}


def example(number: int, *labels: str, crowd: bool = False) -> Example:
    found = (Instance(label, BOXES[label], toy_mask((100, 100), BOXES[label])) for label in labels)
    reference = tuple(found)
    if crowd:
        reference += (Instance("boat", (0, 0, 100, 100), np.ones((100, 100), bool), crowd=True),)
    return Example(
        id=str(number), images=(f"{number}.png",), size=(100, 100), prefix="", suffixes=("",),
        reference=reference, location=f"a:{number}",
    )  # fmt: skip


def test_a_size_is_cocos() -> None:
    assert [size_category(area) for area in (1, 1024, 1025, 9216, 9217)] == [
        SMALL, SMALL, MEDIUM, MEDIUM, LARGE,
    ]  # fmt: skip
    assert [AREA_RANGES[1][1], AREA_RANGES[2][1]] == [1024, 9216]


@pytest.mark.parametrize(("metric", "prefix"), [(DetectionAP(), ""), (Segmentation(), "mask_")])
def test_classes_and_sizes_are_judged_apart(
    metric: DetectionAP | Segmentation, prefix: str
) -> None:
    both, boats = example(0, "boat", "buoy"), example(1, "boat")
    crowded = example(2, "buoy", crowd=True)
    everything = (*both.reference, *boats.reference)
    for one, found in [(both, both.reference), (boats, everything[:2]), (crowded, everything[:1])]:
        metric.update(one, Prediction(id=one.id, text="", value=found))  # type: ignore[arg-type]
    classes = metric.compute_slices()["class"]
    assert list(classes) == ["boat", "buoy"]
    boat, buoy = classes["boat"], classes["buoy"]
    assert (boat["examples"], buoy["examples"]) == (2, 2)
    assert boat[f"{prefix}f1@.5"] == boat[f"{prefix}AP"] == pytest.approx(1)  # one in the crowd
    assert buoy[f"{prefix}precision@.5"] == buoy[f"{prefix}recall@.5"] == 1 / 2
    sizes = metric.compute_slices()["object size"]
    assert list(sizes) == [SMALL, MEDIUM]
    assert sizes[MEDIUM][f"{prefix}f1@.5"] == pytest.approx(1)
    assert sizes[SMALL][f"{prefix}f1@.5"] == pytest.approx(1 / 2)
    whole = metric.compute()
    assert sizes[MEDIUM][f"{prefix}AP"] == whole[f"{prefix}APm"]
    mean = (boat[f"{prefix}AP"] + buoy[f"{prefix}AP"]) / 2
    assert whole[f"{prefix}AP"] == pytest.approx(mean)


def test_a_class_that_is_only_invented_or_ignored_has_no_row_of_found_objects() -> None:
    metric = DetectionAP()
    metric.update(example(0, crowd=True), Prediction(id="0", text="", value=None))
    classes = metric.compute_slices()["class"]
    assert list(classes) == ["boat"]
    assert classes["boat"]["examples"] == 0
    assert math.isnan(classes["boat"]["f1@.5"])
    assert metric.compute_slices()["object size"] == {}
