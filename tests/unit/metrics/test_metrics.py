"""Laws over every metric in the table."""

import math
import subprocess
import sys

import pytest

from palitune.examples import Example, Instance, Prediction, Reference, Value
from palitune.metrics import METRICS, higher_is_better

from toy_data import toy_mask

SIZE = (100, 100)
OBJECTS = tuple(
    Instance(label, box, mask=toy_mask(SIZE, box))
    for label, box in [("boat", (10, 10, 60, 60)), ("buoy", (70, 10, 90, 40))]
)
OBJECT_METRICS = {
    "box_accuracy": OBJECTS,
    "detection": OBJECTS,
    "text_spotting": OBJECTS,
    "segmentation": OBJECTS,
    "referring_segmentation": OBJECTS[:1],
}
TEXT_METRICS = sorted(set(METRICS) - set(OBJECT_METRICS))
ANSWERS = ("two boats",) * 4 + ("a boat",)


def example(reference: Reference) -> Example:
    return Example(
        id="7",
        images=("/harbour.png",),
        size=SIZE,
        prefix="detect boat ; buoy",
        suffixes=("",),
        reference=reference,
        place="boats.jsonl:7",
    )


def prediction(value: Value | None, text: str = "") -> Prediction:
    return Prediction(id="7", text=value if isinstance(value, str) else text, value=value)


@pytest.mark.parametrize("name", METRICS)
def test_an_empty_corpus_is_nan_and_never_zero(name: str) -> None:
    numbers = METRICS[name]().compute()
    assert numbers
    assert all(math.isnan(value) for value in numbers.values())


@pytest.mark.parametrize("name", METRICS)
def test_a_perfect_prediction_gets_the_best_score(name: str) -> None:
    metric = METRICS[name]()
    reference: Reference = OBJECT_METRICS.get(name, ANSWERS)
    value: Value = OBJECT_METRICS.get(name, ANSWERS[0])
    scores = metric.update(example(reference), prediction(value)) | metric.compute()
    for number, score in scores.items():
        # no object of that size in the image
        undefined = number.removeprefix("mask_") in {"APl", "ARl"}
        best = 1 if higher_is_better(number) else 0
        assert score == pytest.approx(best) or (undefined and math.isnan(score)), number


@pytest.mark.parametrize("name", METRICS)
def test_a_malformed_prediction_scores_as_an_empty_answer(name: str) -> None:
    reference: Reference = OBJECT_METRICS.get(name, ANSWERS)
    empty: Value = () if name in OBJECT_METRICS else ""
    malformed, answered = METRICS[name](), METRICS[name]()
    given = malformed.update(example(reference), prediction(None))
    assert given == answered.update(example(reference), prediction(empty))
    numbers = answered.compute()
    assert malformed.compute() == pytest.approx(numbers, nan_ok=True)


@pytest.mark.parametrize("name", TEXT_METRICS)
def test_a_text_metric_reports_its_name_and_refuses_objects(name: str) -> None:
    metric = METRICS[name]()
    assert set(metric.update(example(("a",)), prediction("b"))) == set(metric.compute()) == {name}
    with pytest.raises(TypeError, match="holds objects; a text metric needs an answer"):
        metric.update(example(("a",)), prediction(OBJECTS))
    with pytest.raises(TypeError, match="refers to objects; a text metric needs answers"):
        metric.update(example(OBJECTS), prediction("b"))


@pytest.mark.parametrize("name", OBJECT_METRICS)
def test_a_metric_of_objects_refuses_text(name: str) -> None:
    with pytest.raises(TypeError, match="example 7 holds text; this metric needs objects"):
        METRICS[name]().update(example(("a",)), prediction(OBJECTS))
    with pytest.raises(TypeError, match="prediction 7 holds text"):
        METRICS[name]().update(example(OBJECTS), prediction("boat"))


@pytest.mark.parametrize(
    ("name", "higher"),
    [
        ("ocr/character_error_rate", False),
        ("word_error_rate", False),
        ("validation/loss", False),
        ("detection/malformed", False),
        ("detection/malformed_objects", False),
        ("anls_rrc", True),
        ("detection/f1@.5", True),
        ("APs", True),
        ("segmentation/mask_iou", True),
        ("referring_segmentation/cumulative_iou", True),
    ],
)
def test_the_direction_of_a_number_shows_in_its_name(name: str, higher: bool) -> None:
    assert higher_is_better(name) is higher


def test_importing_the_metrics_loads_no_heavy_library() -> None:
    heavy = "{'rapidfuzz', 'faster_coco_eval', 'pycocotools', 'torch', 'PIL', 'pandas'}"
    code = f"import sys, palitune.metrics; print(sorted({heavy} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
