import json
import math
from pathlib import Path

import pytest

from palitune.errors import DataError
from palitune.records import Instance
from palitune.report.run_reader import get_instances, read_run_folder


def test_a_folder_with_metrics_alone_is_a_run(evaluated_run: Path) -> None:
    run = read_run_folder(evaluated_run)
    assert run.metrics["examples"] == {"ocr": 3}
    assert (run.examples, run.history, run.skipped) == ((), (), ())
    assert (run.config_yaml, run.environment, run.config_choices) == ("", {}, {})


def test_a_folder_without_metrics_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"metrics\.json does not exist; give the output folder"):
        read_run_folder(tmp_path)


def test_predictions_before_and_after_training_are_paired(finished_run: Path) -> None:
    for example in read_run_folder(finished_run).examples:
        assert example.before is not None
        assert set(example.before.scores) == set(example.after.scores)


def test_references_and_predictions_are_read_as_objects(finished_run: Path) -> None:
    example = next(e for e in read_run_folder(finished_run).examples if e.part == "detection")
    assert example.draws_boxes
    assert all(isinstance(item, Instance) for item in example.reference)
    assert get_instances(example.reference) == example.reference
    assert get_instances("text") == get_instances(None) == ()


def test_the_chosen_options_are_read_from_the_defaults(finished_run: Path) -> None:
    assert read_run_folder(finished_run).config_choices == {
        "data": "handwriting",
        "model": "tiny",
        "adapter": "lora",
    }


def test_null_and_nan_scores_are_both_undefined(evaluated_run: Path) -> None:
    record = {
        "id": "1",
        "part": "ocr",
        "images": ["x.png"],
        "size": [2, 3],
        "prefix": "ocr",
        "text": "7",
        "prediction": "7",
        "reference": ["7"],
        "scores": {"exact_match": None, "anls_rrc": math.nan},
        "malformed": False,
    }
    (evaluated_run / "predictions.jsonl").write_text(json.dumps(record))
    assert all(
        math.isnan(score)
        for score in read_run_folder(evaluated_run).examples[0].after.scores.values()
    )


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("predictions_before.jsonl", "{", "predictions_before.jsonl:1: not JSON"),
        ("history.jsonl", '{"step": 1}\n{"st', "history.jsonl:2: not JSON"),
        ("history.jsonl", "[1]", "history.jsonl:1: not a JSON object"),
        ("config.yaml", "a: [1", "config.yaml: not YAML"),
        ("environment.json", "{", "environment.json: not JSON"),
        ("predictions.jsonl", '{"part": "ocr"}', "predictions.jsonl: record 1 has no 'id'"),
    ],
)
def test_a_broken_file_is_named(evaluated_run: Path, name: str, text: str, message: str) -> None:
    (evaluated_run / name).write_text(text)
    with pytest.raises(DataError, match=message):
        read_run_folder(evaluated_run)


def test_a_unicode_line_separator_in_an_answer_does_not_end_its_line(finished_run: Path) -> None:
    line = (finished_run / "predictions.jsonl").read_text().splitlines()[0]
    text = json.loads(line) | {"text": "a\u2028b"}
    other = finished_run.parent / "separator"
    other.mkdir()
    (other / "metrics.json").write_bytes((finished_run / "metrics.json").read_bytes())
    written = json.dumps(text, ensure_ascii=False)
    (other / "predictions.jsonl").write_text(written, encoding="utf-8")
    assert read_run_folder(other).examples[0].after.text == "a\u2028b"
