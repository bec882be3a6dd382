"""Laws over every metric in the table."""

import math
import subprocess
import sys
from collections.abc import Iterable

import numpy as np
import pytest

from palitune.metrics import METRICS, higher_is_better, perfect_value
from palitune.metrics.base import Metric
from palitune.records import Example, Instance, Prediction, Reference, Value

from support.toy_data import toy_mask

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
    "semantic_iou": OBJECTS,
    "referring_segmentation": OBJECTS[:1],
}
PROGRAMS = {"meteor", "spice"}
"""Metrics that run Java: see test_caption_programs."""
OWN = sorted(set(METRICS) - PROGRAMS)
TEXT_METRICS = sorted(set(OWN) - set(OBJECT_METRICS))
SEVERAL = {"bleu", "json_fields", "pope", "rsvqa", "science_qa", "teds"}
"""Metrics that report more than one number; it begins with their name."""
ANSWER = {
    "pope": "yes",
    "science_qa": "The answer is B.",
    "teds": "<table><tr><td>two</td></tr></table>",
}
"""Text of a perfect prediction for benchmarks that prescribe the form."""
MOVED_BOX = (12, 10, 60, 64)
MOVED = Instance("boat", MOVED_BOX, mask=toy_mask(SIZE, MOVED_BOX), score=0.4)
ANSWERS = ("two boats",) * 4 + ("a boat",)


def example(reference: Reference) -> Example:
    return Example(
        id="7",
        images=("/harbour.png",),
        size=SIZE,
        prefix="detect boat ; buoy",
        suffixes=("",),
        reference=reference,
        location="boats.jsonl:7",
        attributes={"question_type": "count"},
    )


def prediction(value: Value | None, text: str = "") -> Prediction:
    return Prediction(id="7", text=value if isinstance(value, str) else text, value=value)


@pytest.mark.parametrize("name", OWN)
def test_an_empty_corpus_is_nan_and_never_zero(name: str) -> None:
    numbers = METRICS[name]().compute()
    assert numbers
    assert all(math.isnan(value) for value in numbers.values())


@pytest.mark.parametrize("name", OWN)
def test_a_perfect_prediction_gets_the_best_score(name: str) -> None:
    metric = METRICS[name]()
    scores: dict[str, float] = {}
    for answer in ("two boats", "a dog in the snow"):  # one image alone has no CIDEr-D
        text = ANSWER.get(name, answer + " on a big lake" * (name in {"bleu", "bleu_4", "cider_d"}))
        reference: Reference = OBJECT_METRICS.get(name, (text,) * 4)
        scores |= metric.update(example(reference), prediction(OBJECT_METRICS.get(name, text)))
    for each in [scores, *metric.per_example_scores(), metric.compute()]:
        for number, score in each.items():
            # no object of that size in the image
            undefined = number.removeprefix("mask_") in {"APl", "ARl"}
            assert score == pytest.approx(perfect_value(number)) or (
                undefined and math.isnan(score)
            ), number


@pytest.mark.parametrize("name", OWN)
def test_the_same_corpus_weighed_once_has_the_same_numbers_and_twice_too(name: str) -> None:
    numbers = judged(name, range(6)).compute()
    metric = judged(name, range(6))
    for times in (1, 3):
        weighed = metric.compute_weighted(np.full((2, 6), float(times)))
        for number, values in weighed.items():
            assert values.tolist() == pytest.approx([numbers[number]] * 2, nan_ok=True), number
    assert set(metric.compute_weighted(np.ones((1, 6)))) == set(numbers)
    assert all(math.isnan(v[0]) for v in metric.compute_weighted(np.zeros((1, 6))).values())


@pytest.mark.parametrize("name", sorted(set(OWN) - {"cider_d"}))
def test_some_examples_weigh_as_if_there_were_no_others(name: str) -> None:
    counts = np.array([[1.0, 0, 1, 1, 0, 1]])
    alone = judged(name, [0, 2, 3, 5]).compute()
    weighed = {n: float(v[0]) for n, v in judged(name, range(6)).compute_weighted(counts).items()}
    assert weighed == pytest.approx(alone, nan_ok=True)


def test_document_frequencies_stay_those_of_the_whole_corpus() -> None:
    metric = judged("cider_d", range(6))
    scores = [row["cider_d"] for row in metric.per_example_scores()]
    first_two = metric.compute_weighted(np.array([[1.0, 1, 0, 0, 0, 0]]))["cider_d"][0]
    assert first_two == pytest.approx(sum(scores[:2]) / 2)


def judged(name: str, chosen: Iterable[int]) -> Metric:
    """A metric that has seen some of six examples, right and wrong ones."""
    said = ["two boats", "a red boat at sea", "", "yes", "The answer is B.", "2"]
    wanted = ["a boat", "a red boat at the sea", "a dog", "no", "The answer is B.", "two"]
    found = [OBJECTS, OBJECTS[:1], (), (MOVED,), OBJECTS[1:], (MOVED, *OBJECTS)]
    metric = METRICS[name]()
    for index in chosen:
        texts: tuple[str, ...] = (wanted[index], wanted[(index + 1) % 6])
        reference: Reference = OBJECT_METRICS.get(name, texts)
        value: Value = found[index] if name in OBJECT_METRICS else said[index]
        metric.update(example(reference), prediction(value))
    return metric


@pytest.mark.parametrize("name", OWN)
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
    at_once = metric.update(example(("a",)), prediction("b"))
    own = set(at_once) | {number for row in metric.per_example_scores() for number in row}
    if name in SEVERAL:
        assert own <= set(metric.compute())
        assert all(number.startswith(name) for number in metric.compute())
    else:
        assert own == set(metric.compute()) == {name}
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
    heavy = "{'rapidfuzz', 'pycocotools', 'pycocoevalcap', 'torch', 'PIL', 'pandas'}"
    code = f"import sys, palitune.metrics; print(sorted({heavy} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
