"""The loop of evaluation: every example once, in order, judged by its own task's metrics."""

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

BAD = ("malformed", "unfinished", "malformed_fragments", "unknown_label")
SETTINGS = EvaluationConfig(batch_size=3, num_workers=0)


@pytest.fixture
def parts(tmp_path: Path) -> list[TaskDataset]:
    source = Jsonl(path=str(write_toy_jsonl(tmp_path)))
    ocr = load_split(source, Ocr(max_new_tokens=4), "test")
    detection = Detection(classes=["red", "green", "blue"], max_new_tokens=8)
    return ocr + load_split(source, detection, "test")


def judged(
    folder: Path, parts: list[TaskDataset], settings: EvaluationConfig = SETTINGS
) -> Results:
    model = Local(path=str(folder))
    return evaluate(load(model), load_processor(model), parts, settings)


def test_every_example_is_judged_once_and_in_order(
    tiny: Callable[[str], Path], parts: list[TaskDataset]
) -> None:
    results = judged(tiny("paligemma2"), parts)
    ids = [example.id for part in parts for example in part.examples]
    assert [record["id"] for record in results.predictions] == ids
    assert results.num_examples == {"ocr": 4, "detection": 4}
    assert {"ocr/exact_match", "ocr/malformed", "detection/f1@.5"} <= results.metrics.keys()


def test_numbers_have_intervals_and_changes_are_paired(
    tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    source = Jsonl(path=str(write_toy_jsonl(tmp_path)), attributes=["text"])
    parts = load_split(source, Ocr(max_new_tokens=4), "train")  # 12 images
    results = judged(tiny("paligemma2"), parts)
    assert results.bootstrap_values.keys() == results.metrics.keys()
    for name, (low, high) in results.confidence_intervals.items():
        assert low <= results.metrics[name] <= high
    assert set(results.difference_intervals(results).values()) == {(0.0, 0.0)}
    fewer = judged(tiny("paligemma2"), parts, EvaluationConfig(max_samples=11, num_workers=0))
    assert results.difference_intervals(fewer) == {}
    assert (
        judged(
            tiny("paligemma2"), parts, EvaluationConfig(num_workers=0, bootstrap_samples=0)
        ).confidence_intervals
        == {}
    )


def test_numbers_are_told_by_attribute(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    source = Jsonl(path=str(write_toy_jsonl(tmp_path)), attributes=["question"])
    results = judged(tiny("paligemma2"), load_split(source, Ocr(max_new_tokens=4), "test"))
    question = "how many rectangles are there?"
    told = results.slices["ocr"]["question"][question]
    assert told["examples"] == 4
    assert told["character_error_rate"] == results.metrics["ocr/character_error_rate"]
    assert results.predictions[0]["attributes"] == {"question": question}


def test_scores_that_need_the_whole_corpus_reach_every_prediction(
    tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    source = Jsonl(path=str(write_toy_jsonl(tmp_path)))
    task = Caption(metrics=["cider_d", "exact_match"], max_new_tokens=4)
    results = judged(tiny("paligemma2"), load_split(source, task, "test"))
    scores = [record["scores"] for record in results.predictions]
    assert [list(score) for score in scores] == [["cider_d", "exact_match"]] * 4
    mean = sum(score["cider_d"] for score in scores) / 4
    assert results.metrics["caption/cider_d"] == pytest.approx(mean)


def test_limit_takes_the_first_examples_of_every_part(
    tiny: Callable[[str], Path], parts: list[TaskDataset]
) -> None:
    results = judged(tiny("paligemma2"), parts, EvaluationConfig(max_samples=2, num_workers=0))
    assert results.num_examples == {"ocr": 2, "detection": 2}


def test_workers_and_batch_size_change_no_prediction(
    tiny: Callable[[str], Path], parts: list[TaskDataset]
) -> None:
    alone = judged(tiny("paligemma"), parts, EvaluationConfig(batch_size=1, num_workers=0))
    together = judged(tiny("paligemma"), parts, EvaluationConfig(batch_size=3, num_workers=1))
    texts = [[record["text"] for record in run.predictions] for run in (alone, together)]
    assert texts[0] == texts[1]


def test_perfect_answers_score_perfectly_and_carry_their_confidence(
    monkeypatch: pytest.MonkeyPatch,
    tiny: Callable[[str], Path],
    parts: list[TaskDataset],
    tmp_path: Path,
) -> None:
    suffixes = iter(example.suffixes[0] for part in parts for example in part.examples)

    def right(network: Any, tokenizer: Any, batch: Any, *_: Any, **__: Any) -> list[Generation]:
        texts = [next(suffixes) for _ in batch["input_ids"]]
        return [Generation(text, (0,), (len(text),), (-0.5,), finished=True) for text in texts]

    monkeypatch.setattr("palitune.evaluation.inference.generate", right)
    results = judged(tiny("paligemma"), parts)
    assert results.metrics["ocr/exact_match"] == 1.0
    assert results.metrics["ocr/character_error_rate"] == 0.0
    assert results.metrics["detection/f1@.5"] == 1.0
    assert results.metrics["detection/AP"] == pytest.approx(1.0)
    results.write_predictions(tmp_path / "predictions.jsonl")
    lines = (tmp_path / "predictions.jsonl").read_text().splitlines()
    last = json.loads(lines[-1])
    assert last["prediction"][0]["score"] == pytest.approx(0.6065, abs=1e-3)
    assert last["malformed"] is False


def test_a_malformed_answer_is_counted_and_scores_as_empty(
    monkeypatch: pytest.MonkeyPatch, tiny: Callable[[str], Path], parts: list[TaskDataset]
) -> None:
    def garbage(network: Any, tokenizer: Any, batch: Any, *_: Any, **__: Any) -> list[Generation]:
        return [Generation("<loc0001> cut", (0,), (13,), (-1.0,), finished=False)] * len(
            batch["input_ids"]
        )

    monkeypatch.setattr("palitune.evaluation.inference.generate", garbage)
    results = judged(tiny("paligemma"), parts[1:])
    assert results.metrics["detection/malformed"] == 1.0
    assert results.metrics["detection/unfinished"] == 1.0
    assert results.metrics["detection/f1@.5"] == 0.0
    assert all(record["prediction"] is None for record in results.predictions)


def test_answers_within_the_grammar_are_all_readable_also_by_beams(
    tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    source = Jsonl(path=str(write_toy_jsonl(tmp_path)))
    task = Detection(classes=["red", "green", "blue"], max_new_tokens=24, max_objects=2)
    parts = load_split(source, task, "test") + load_split(source, Ocr(max_new_tokens=4), "test")
    for beams in (1, 2):
        settings = EvaluationConfig(
            batch_size=3, num_workers=0, constrained_decoding=True, num_beams=beams
        )
        results = judged(tiny("paligemma"), parts, settings)
        named = {f"detection/{name}": results.metrics[f"detection/{name}"] for name in BAD}
        assert named == dict.fromkeys(named, 0.0)
    free = judged(tiny("paligemma"), parts)
    assert free.metrics["detection/malformed_fragments"] > 0
    assert "ocr/malformed_fragments" not in free.metrics


def test_the_names_announced_are_the_names_reported(
    tiny: Callable[[str], Path], parts: list[TaskDataset]
) -> None:
    assert metric_names(parts) == list(judged(tiny("paligemma"), parts).metrics)


def test_an_unknown_best_metric_is_refused_before_training(parts: list[TaskDataset]) -> None:
    training = TrainingConfig(validation_split="test", best_metric="ocr/accuracy")
    with pytest.raises(TrainingError, match=r"must be one of ocr/exact_match, .*got ocr/accuracy"):
        make_validation_fn(None, None, parts, SETTINGS, training)
    assert make_validation_fn(None, None, [], SETTINGS, TrainingConfig()) is None
