"""Predictions become metrics, slices and records."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from palitune.data.dataset import TaskDataset, load_split
from palitune.data.sources.jsonl import Jsonl
from palitune.evaluation.config import EvaluationConfig
from palitune.evaluation.scoring import metric_names, score_predictions
from palitune.records import Likelihood, Prediction
from palitune.report.run_reader import get_instances
from palitune.tasks.detection import Detection
from palitune.tasks.vqa import Vqa

Perfect = Callable[[TaskDataset], list[Prediction]]


def test_results_contain_metric_names_and_slices(jsonl: Jsonl, perfect: Perfect) -> None:
    datasets = load_split(jsonl, Detection(classes=["red", "green", "blue"]), "train")
    results = score_predictions(datasets, [perfect(datasets[0])], EvaluationConfig())
    assert results.metric_names_by_dataset == {"detection": ["detection"]}
    assert results.metrics["detection/f1@.5"] == 1
    slices = results.slices["detection"]
    assert {"number of objects", "class", "object size"} == set(slices)
    assert sum(row["examples"] for row in slices["number of objects"].values()) == 12
    assert set(slices["class"]) == {"red", "green", "blue"}
    assert (
        score_predictions(datasets, [perfect(datasets[0])], EvaluationConfig(slices=False)).slices
        == {}
    )


def test_missing_predictions_are_counted(jsonl: Jsonl, perfect: Perfect) -> None:
    datasets = load_split(jsonl, Vqa(), "test")
    predictions = [*perfect(datasets[0])[:3], Prediction(id="1", text="", value="", missing=True)]
    results = score_predictions(datasets, [predictions], EvaluationConfig())
    assert results.num_missing == {"vqa": 1}
    assert results.metrics["vqa/exact_match"] == 3 / 4
    assert [record.get("missing") for record in results.predictions] == [None] * 3 + [True]


def test_perplexity_is_reported_if_every_prediction_has_a_likelihood(jsonl: Jsonl) -> None:
    datasets = load_split(jsonl, Vqa(), "test")
    predictions = [
        Prediction(id="1", text="2", value="2", likelihood=Likelihood(-2.0, 2)) for _ in range(4)
    ]
    results = score_predictions(datasets, [predictions], EvaluationConfig())
    assert results.metrics["vqa/perplexity"] == pytest.approx(2.718281828)
    assert results.predictions[0]["scores"]["log_prob"] == -1
    assert "vqa/perplexity" in metric_names(datasets, perplexity=True)
    assert set(results.metrics) == set(metric_names(datasets, perplexity=True))
    incomplete = [*predictions[:3], Prediction(id="1", text="2", value="2")]
    assert (
        "vqa/perplexity"
        not in score_predictions(datasets, [incomplete], EvaluationConfig()).metrics
    )


def test_a_dataset_without_references_is_recorded_but_not_scored(jsonl: Jsonl) -> None:
    for file in Path(jsonl.path).glob("*.jsonl"):
        file.write_text(file.read_text().replace('"answers"', '"unknown"'))
    datasets = load_split(jsonl, Vqa(), "test", allow_missing_references=True)
    results = score_predictions(
        datasets, [[Prediction(id="1", text="2", value="2")] * 4], EvaluationConfig()
    )
    assert results.metrics == results.slices == results.metric_names_by_dataset == {}
    assert results.num_examples == {"vqa": 4}
    assert [record["prediction"] for record in results.predictions] == ["2"] * 4


def test_error_types_and_thresholds_are_reported_for_objects_only(
    jsonl: Jsonl, perfect: Perfect
) -> None:
    datasets = load_split(jsonl, Detection(classes=["red", "green", "blue"]), "train")

    def predict(score: float | None) -> list[Prediction]:
        return [
            replace(p, value=tuple(replace(item, score=score) for item in get_instances(p.value)))
            for p in perfect(datasets[0])
        ]

    results = score_predictions(datasets, [predict(None)], EvaluationConfig())
    assert results.error_types["detection"]["ap"] == 1
    assert results.thresholds == {}
    found = score_predictions(datasets, [predict(0.75)], EvaluationConfig(slices=False))
    assert found.error_types == {}
    assert found.thresholds["detection"]["task"] == "detection"
    assert found.thresholds["detection"]["overall"]["threshold"] == 0.375
    texts = load_split(jsonl, Vqa(), "test")
    answered = score_predictions(texts, [perfect(texts[0])], EvaluationConfig())
    assert (answered.error_types, answered.thresholds) == ({}, {})
