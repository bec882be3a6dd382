"""Precision, recall and F1 over the threshold, and the threshold of best F1."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palitune.metrics.objects.detection import CocoExample
from palitune.metrics.objects.quality.score_thresholds import (
    best_f1,
    pool_classes,
    score_curve,
    score_thresholds,
    scored_matches,
)

CASES = json.loads((Path(__file__).parent / "tide_cases.json").read_text(encoding="utf-8"))["cases"]


def thing(label: str, x: float, score: float = 0.9) -> dict[str, Any]:
    return {"label": label, "bbox": [x, 0, 10, 10], "score": score, "iscrowd": 0}


def keep(examples: list[CocoExample], threshold: float) -> list[CocoExample]:
    return [
        replace(e, predicted=[entry for entry in e.predicted if entry["score"] >= threshold])
        for e in examples
    ]


@pytest.mark.parametrize("index", range(0, len(CASES), 3))
def test_a_point_of_the_curve_has_the_values_of_the_filtered_predictions(index: int) -> None:
    examples = [CocoExample(**image) for image in CASES[index]["images"]]
    kind = CASES[index]["kind"]
    for label, matches in scored_matches(examples, kind).items():
        curve = score_curve(matches)
        for number, score in enumerate(curve.scores):
            kept = scored_matches(keep(examples, score), kind)[label]
            correct, total = kept.correct.sum(), len(kept.correct)
            assert curve.precision[number] == correct / total
            if matches.num_objects:
                assert curve.recall[number] == correct / matches.num_objects
                assert curve.f1[number] == 2 * correct / (total + matches.num_objects)


@pytest.mark.parametrize("index", range(0, len(CASES), 3))
def test_no_other_threshold_has_a_better_f1(index: int) -> None:
    examples = [CocoExample(**image) for image in CASES[index]["images"]]
    kind = CASES[index]["kind"]
    pooled = pool_classes(scored_matches(examples, kind).values())
    best = best_f1(pooled)
    if best.threshold is None:
        assert not pooled.correct.any()
        return
    kept = pool_classes(scored_matches(keep(examples, best.threshold), kind).values())
    assert best.f1 == 2 * kept.correct.sum() / (len(kept.correct) + pooled.num_objects)
    assert best.f1 == np.nanmax(score_curve(pooled).f1)


def test_the_threshold_lies_between_the_last_kept_score_and_the_next() -> None:
    examples = [
        CocoExample(
            "1",
            (100, 100),
            [thing("boat", 0), thing("boat", 30)],
            [thing("boat", 0, 0.9), thing("boat", 30, 0.8), thing("boat", 60, 0.2)],
        )
    ]
    point = best_f1(scored_matches(examples)["boat"])
    assert (point.threshold, point.f1, point.objects) == (0.5, 1.0, 2)


def test_a_class_without_objects_has_no_threshold_but_counts_in_the_overall_one() -> None:
    examples = [
        CocoExample("1", (100, 100), [thing("boat", 0)], [thing("boat", 0, 0.9), thing("kite", 50)])
    ]
    found = score_thresholds(examples)
    assert list(found["classes"]) == ["boat"]
    assert found["overall"]["precision"] == 0.5


def test_a_class_that_is_never_predicted_correctly_has_no_threshold() -> None:
    examples = [CocoExample("1", (100, 100), [thing("boat", 0)], [thing("boat", 50)])]
    assert score_thresholds(examples)["classes"]["boat"] == {
        "threshold": None,
        "precision": 0.0,
        "recall": 0.0,
        "f1": 0.0,
        "objects": 1,
    }
    never = score_thresholds([CocoExample("1", (100, 100), [], [])])
    assert never["classes"] == {}
    assert math.isnan(never["overall"]["f1"])


def test_the_tie_of_two_thresholds_keeps_fewer_objects() -> None:
    # F1 is 2/3 with the first object alone, and with all four.
    reference = [thing("boat", 0), thing("boat", 20)]
    predicted = [
        thing("boat", x, score) for x, score in ((0, 0.9), (50, 0.8), (70, 0.7), (20, 0.6))
    ]
    point = best_f1(scored_matches([CocoExample("1", (100, 100), reference, predicted)])["boat"])
    assert (point.threshold, point.f1) == (pytest.approx(0.85), pytest.approx(2 / 3))
