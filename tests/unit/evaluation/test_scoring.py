"""Answers become numbers, slices and records, whoever gave them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from palitune.data.dataset import TaskDataset, load_split
from palitune.data.sources.jsonl import Jsonl
from palitune.evaluation.config import EvaluationConfig
from palitune.evaluation.perplexity import Likelihood
from palitune.evaluation.prediction_records import PredictionRecord
from palitune.evaluation.scoring import metric_names, score_predictions
from palitune.tasks.detection import Detection
from palitune.tasks.vqa import Vqa

Right = Callable[[TaskDataset], list[PredictionRecord]]


def test_results_name_their_metrics_and_slices(jsonl: Jsonl, right: Right) -> None:
    parts = load_split(jsonl, Detection(classes=["red", "green", "blue"]), "train")
    results = score_predictions(parts, [right(parts[0])], EvaluationConfig())
    assert results.metric_names_by_dataset == {"detection": ["detection"]}
    assert results.metrics["detection/f1@.5"] == 1
    told = results.slices["detection"]
    assert {"number of objects", "class", "object size"} == set(told)
    assert sum(row["examples"] for row in told["number of objects"].values()) == 12
    assert set(told["class"]) == {"red", "green", "blue"}
    assert score_predictions(parts, [right(parts[0])], EvaluationConfig(slices=False)).slices == {}


def test_what_is_missing_is_counted(jsonl: Jsonl, right: Right) -> None:
    parts = load_split(jsonl, Vqa(), "test")
    answers = [*right(parts[0])[:3], PredictionRecord(text="", value="", missing=True)]
    results = score_predictions(parts, [answers], EvaluationConfig())
    assert results.num_missing == {"vqa": 1}
    assert results.metrics["vqa/exact_match"] == 3 / 4
    assert [record.get("missing") for record in results.predictions] == [None] * 3 + [True]


def test_perplexity_is_told_where_every_answer_has_it(jsonl: Jsonl) -> None:
    parts = load_split(jsonl, Vqa(), "test")
    answers = [
        PredictionRecord(text="2", value="2", likelihood=Likelihood(-2.0, 2)) for _ in range(4)
    ]
    results = score_predictions(parts, [answers], EvaluationConfig())
    assert results.metrics["vqa/perplexity"] == pytest.approx(2.718281828)
    assert results.predictions[0]["scores"]["log_prob"] == -1
    assert "vqa/perplexity" in metric_names(parts, perplexity=True)
    assert set(results.metrics) == set(metric_names(parts, perplexity=True))
    some = [*answers[:3], PredictionRecord(text="2", value="2")]
    assert "vqa/perplexity" not in score_predictions(parts, [some], EvaluationConfig()).metrics


def test_without_references_nothing_is_judged_and_all_is_kept(jsonl: Jsonl) -> None:
    for file in Path(jsonl.path).glob("*.jsonl"):
        file.write_text(file.read_text().replace('"answers"', '"unknown"'))
    parts = load_split(jsonl, Vqa(), "test", allow_missing_references=True)
    results = score_predictions(
        parts, [[PredictionRecord(text="2", value="2")] * 4], EvaluationConfig()
    )
    assert results.metrics == results.slices == results.metric_names_by_dataset == {}
    assert results.num_examples == {"vqa": 4}
    assert [record["prediction"] for record in results.predictions] == ["2"] * 4
