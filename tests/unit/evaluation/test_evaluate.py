"""An evaluation scores every example once, in order, with the metrics of its task."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from palitune.data.dataset import TaskDataset, load_split
from palitune.data.sources.jsonl import Jsonl
from palitune.errors import TrainingError
from palitune.evaluation.config import EvaluationConfig
from palitune.evaluation.evaluate import evaluate, make_validation_fn
from palitune.evaluation.scoring import Results, metric_names
from palitune.models.config import Local
from palitune.models.generation.generate import Generation
from palitune.models.loading import load, load_processor
from palitune.tasks.caption import Caption
from palitune.tasks.detection import Detection
from palitune.tasks.ocr import Ocr
from palitune.training.config import TrainingConfig

from support.toy_data import write_toy_jsonl

VALIDITY = ("malformed", "unfinished", "malformed_fragments", "unknown_label")
SETTINGS = EvaluationConfig(batch_size=3, num_workers=0)


@pytest.fixture
def datasets(tmp_path: Path) -> list[TaskDataset]:
    source = Jsonl(path=str(write_toy_jsonl(tmp_path)))
    ocr = load_split(source, Ocr(max_new_tokens=4), "test")
    detection = Detection(classes=["red", "green", "blue"], max_new_tokens=8)
    return ocr + load_split(source, detection, "test")


def evaluated(
    folder: Path, datasets: list[TaskDataset], settings: EvaluationConfig = SETTINGS
) -> Results:
    model = Local(path=str(folder))
    return evaluate(load(model), load_processor(model), datasets, settings)


def test_every_example_is_scored_once_and_in_order(
    tiny: Callable[[str], Path], datasets: list[TaskDataset]
) -> None:
    results = evaluated(tiny("paligemma2"), datasets)
    ids = [example.id for dataset in datasets for example in dataset.examples]
    assert [record["id"] for record in results.predictions] == ids
    assert results.num_examples == {"ocr": 4, "detection": 4}
    assert {"ocr/exact_match", "ocr/malformed", "detection/f1@.5"} <= results.metrics.keys()


def test_metrics_have_intervals_and_differences_are_paired(
    tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    source = Jsonl(path=str(write_toy_jsonl(tmp_path)), attributes=["text"])
    datasets = load_split(source, Ocr(max_new_tokens=4), "train")  # 12 images
    results = evaluated(tiny("paligemma2"), datasets)
    assert results.bootstrap_values.keys() == results.metrics.keys()
    for name, (low, high) in results.confidence_intervals.items():
        assert low <= results.metrics[name] <= high
    assert set(results.difference_intervals(results).values()) == {(0.0, 0.0)}
    fewer = evaluated(tiny("paligemma2"), datasets, EvaluationConfig(max_samples=11, num_workers=0))
    assert results.difference_intervals(fewer) == {}
    assert (
        evaluated(
            tiny("paligemma2"), datasets, EvaluationConfig(num_workers=0, bootstrap_samples=0)
        ).confidence_intervals
        == {}
    )


def test_metrics_are_reported_by_attribute(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    source = Jsonl(path=str(write_toy_jsonl(tmp_path)), attributes=["question"])
    results = evaluated(tiny("paligemma2"), load_split(source, Ocr(max_new_tokens=4), "test"))
    question = "how many rectangles are there?"
    metrics = results.slices["ocr"]["question"][question]
    assert metrics["examples"] == 4
    assert metrics["character_error_rate"] == results.metrics["ocr/character_error_rate"]
    assert results.predictions[0]["attributes"] == {"question": question}


def test_scores_that_need_the_whole_corpus_reach_every_prediction(
    tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    source = Jsonl(path=str(write_toy_jsonl(tmp_path)))
    task = Caption(metrics=["cider_d", "exact_match"], max_new_tokens=4)
    results = evaluated(tiny("paligemma2"), load_split(source, task, "test"))
    scores = [record["scores"] for record in results.predictions]
    assert [list(score) for score in scores] == [["cider_d", "exact_match"]] * 4
    mean = sum(score["cider_d"] for score in scores) / 4
    assert results.metrics["caption/cider_d"] == pytest.approx(mean)


def test_max_samples_takes_the_first_examples_of_every_dataset(
    tiny: Callable[[str], Path], datasets: list[TaskDataset]
) -> None:
    results = evaluated(
        tiny("paligemma2"), datasets, EvaluationConfig(max_samples=2, num_workers=0)
    )
    assert results.num_examples == {"ocr": 2, "detection": 2}


def test_workers_and_batch_size_change_no_prediction(
    tiny: Callable[[str], Path], datasets: list[TaskDataset]
) -> None:
    single = evaluated(tiny("paligemma"), datasets, EvaluationConfig(batch_size=1, num_workers=0))
    batched = evaluated(tiny("paligemma"), datasets, EvaluationConfig(batch_size=3, num_workers=1))
    texts = [[record["text"] for record in run.predictions] for run in (single, batched)]
    assert texts[0] == texts[1]


def test_correct_answers_have_perfect_scores_and_a_confidence(
    monkeypatch: pytest.MonkeyPatch,
    tiny: Callable[[str], Path],
    datasets: list[TaskDataset],
    tmp_path: Path,
) -> None:
    suffixes = iter(example.suffixes[0] for dataset in datasets for example in dataset.examples)

    def generate_references(
        network: Any, tokenizer: Any, batch: Any, *_: Any, **__: Any
    ) -> list[Generation]:
        texts = [next(suffixes) for _ in batch["input_ids"]]
        return [Generation(text, (0,), (len(text),), (-0.5,), finished=True) for text in texts]

    monkeypatch.setattr("palitune.evaluation.answering.generate", generate_references)
    results = evaluated(tiny("paligemma"), datasets)
    assert results.metrics["ocr/exact_match"] == 1.0
    assert results.metrics["ocr/character_error_rate"] == 0.0
    assert results.metrics["detection/f1@.5"] == 1.0
    assert results.metrics["detection/AP"] == pytest.approx(1.0)
    results.write_predictions(tmp_path / "predictions.jsonl")
    lines = (tmp_path / "predictions.jsonl").read_text().splitlines()
    last = json.loads(lines[-1])
    assert last["prediction"][0]["score"] == pytest.approx(0.6065, abs=1e-3)
    assert last["malformed"] is False


def test_a_malformed_answer_is_counted_and_scored_as_empty(
    monkeypatch: pytest.MonkeyPatch, tiny: Callable[[str], Path], datasets: list[TaskDataset]
) -> None:
    def generate_garbage(
        network: Any, tokenizer: Any, batch: Any, *_: Any, **__: Any
    ) -> list[Generation]:
        return [Generation("<loc0001> cut", (0,), (13,), (-1.0,), finished=False)] * len(
            batch["input_ids"]
        )

    monkeypatch.setattr("palitune.evaluation.answering.generate", generate_garbage)
    results = evaluated(tiny("paligemma"), datasets[1:])
    assert results.metrics["detection/malformed"] == 1.0
    assert results.metrics["detection/unfinished"] == 1.0
    assert results.metrics["detection/f1@.5"] == 0.0
    assert all(record["prediction"] is None for record in results.predictions)


def test_constrained_decoding_gives_well_formed_answers_with_any_number_of_beams(
    tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    source = Jsonl(path=str(write_toy_jsonl(tmp_path)))
    task = Detection(classes=["red", "green", "blue"], max_new_tokens=24, max_objects=2)
    datasets = load_split(source, task, "test") + load_split(source, Ocr(max_new_tokens=4), "test")
    for beams in (1, 2):
        settings = EvaluationConfig(
            batch_size=3, num_workers=0, constrained_decoding=True, num_beams=beams
        )
        results = evaluated(tiny("paligemma"), datasets, settings)
        shares = {f"detection/{name}": results.metrics[f"detection/{name}"] for name in VALIDITY}
        assert shares == dict.fromkeys(shares, 0.0)
    unconstrained = evaluated(tiny("paligemma"), datasets)
    assert unconstrained.metrics["detection/malformed_fragments"] > 0
    assert "ocr/malformed_fragments" not in unconstrained.metrics


def test_metric_names_are_the_reported_names(
    tiny: Callable[[str], Path], datasets: list[TaskDataset]
) -> None:
    assert metric_names(datasets) == list(evaluated(tiny("paligemma"), datasets).metrics)


def test_an_unknown_best_metric_raises_an_error_before_training(
    datasets: list[TaskDataset],
) -> None:
    training = TrainingConfig(validation_split="test", best_metric="ocr/accuracy")
    with pytest.raises(TrainingError, match=r"must be one of ocr/exact_match, .*got ocr/accuracy"):
        training.check_best_metric(metric_names(datasets))


def test_without_datasets_there_is_no_validation_function() -> None:
    assert make_validation_fn(None, None, [], SETTINGS, max_samples=None) is None
