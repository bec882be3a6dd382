"""Documents to JSON: targets, parsing, confidences, and bad data."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from palitune.data.dataset import load_split, load_training_split
from palitune.data.sources.jsonl import Jsonl
from palitune.errors import DataError
from palitune.records import Prediction, Row, prediction_from_json, prediction_to_json
from palitune.tasks.json_task import Json

FIELDS = {"total": "number", "date": "date", "items": [{"name": "lowercase", "price": "number"}]}
TARGET = '{"total":12.5,"date":"2024-01-31","items":[{"name":"Tea","price":3}]}'
COMPARED = TARGET.replace("Tea", "tea")


def make_row(content: Any) -> Row:
    return Row(
        id="1", images=("a.png",), size=(8, 8), location="train.jsonl:1", json=json.dumps(content)
    )


def write_split(folder: Path, split: str, rows: list[dict[str, Any]]) -> None:
    (folder / split).mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(folder / split / "a.png")
    lines = (json.dumps({"file_name": "a.png"} | row) + "\n" for row in rows)
    (folder / split / "metadata.jsonl").write_text("".join(lines), encoding="utf-8")


def test_the_target_is_canonical_json_of_the_declared_fields() -> None:
    content = {"items": {"price": "3", "name": "Tea"}, "date": "31.1.2024", "total": "€ 12,50"}
    task = Json(fields=FIELDS)
    example = task.example(make_row(content | {"tax": 1}))
    assert example.prefix == "extract json"
    assert example.suffixes == (TARGET,)
    assert example.reference == (COMPARED,)
    assert task.count_dropped(make_row(content | {"tax": 1})) == {
        "fields that task.fields does not name, e.g. tax": 1
    }
    assert task.parse(TARGET, (8, 8)) == COMPARED
    assert Json(prompt="read", fields=FIELDS).prefix(make_row(content)) == "read"


def test_a_malformed_answer_keeps_its_fields_and_is_reported() -> None:
    task = Json(fields=FIELDS)
    cut = TARGET[: TARGET.index(',"price')]
    assert task.parse(cut, (8, 8)) == COMPARED[: COMPARED.index(',"price')] + "}]}"
    assert task.repairs(cut) == ("the text is cut off",)
    assert task.parse("{'total': 5}", (8, 8)) == '{"total":5}'
    assert task.repairs("{'total': 5}") == ("wrong quotes",)
    assert task.repairs('{"total": 5, "x": 1}') == ("unknown field 'x'",)
    assert task.repairs(TARGET) == ()
    assert task.parse("no idea", (8, 8)) is None
    assert task.parse(" ", (8, 8)) == ""
    assert task.parse('{"total', (8, 8)) is None
    assert task.repairs("no idea") == ("no JSON object",)
    assert task.parse("{}", (8, 8)) == "{}"


def test_every_field_has_the_confidence_of_its_characters() -> None:
    spans = Json(fields=FIELDS).field_confidences(TARGET, lambda start, end: (end - start) / 16)
    lengths = {"total": 4, "date": 12, "items[0].name": 5, "items[0].price": 1}
    assert spans == {path: length / 16 for path, length in lengths.items()}
    prediction = Prediction(
        id="1", text=TARGET, value=COMPARED, field_confidences=spans, repairs=("wrong quotes",)
    )
    example = Json(fields=FIELDS).example(make_row({"total": 1}))
    record = json.loads(json.dumps(prediction_to_json(prediction, example, "json")))
    assert prediction_from_json(record) == prediction


def test_donut_metadata_is_read_and_its_fields_are_inferred(tmp_path: Path) -> None:
    rows = [{"menu": [{"nm": "Tea", "price": "12,500"}]}, {"menu": {"nm": "Cake"}, "total": "3"}]
    truths = [{"ground_truth": json.dumps({"gt_parse": row})} for row in rows]
    write_split(tmp_path, "train", truths)
    write_split(tmp_path, "test", [{"ground_truth": json.dumps({"gt_parse": {"total": "5"}})}])
    task, source = Json(), Jsonl(path=str(tmp_path))
    [train] = load_training_split(source, task, "train", seed=0)
    assert task.fields == {"menu": [{"nm": "text", "price": "text"}], "total": "text"}
    assert [example.suffixes[0] for example in train.examples] == [
        '{"menu":[{"nm":"Tea","price":"12,500"}]}',
        '{"menu":[{"nm":"Cake"}],"total":"3"}',
    ]
    fresh = Json()
    [test] = load_split(source, fresh, "test")
    assert fresh.fields == task.fields  # those of the training split
    assert test.examples[0].reference == ('{"total":"5"}',)


@pytest.mark.parametrize(
    ("row", "fields", "message"),
    [
        ({"json": "total 5"}, FIELDS, r"jsonl:1: column 'json' must be an object .*no JSON object"),
        ({"json": "{'total': 5}"}, FIELDS, r"jsonl:1: column 'json' .*\(wrong quotes\)"),
        ({"json": [1]}, FIELDS, r"jsonl:1: column 'json' .*no JSON object"),
        ({"json": {"total": "five"}}, FIELDS, 'total must be a number, got "five"'),
        ({"json": {"date": "soon"}}, FIELDS, 'date must be a date, got "soon"'),
        ({"json": {"items": 4}}, FIELDS, r"items\[0\] must be an object, got 4"),
        ({"text": "x"}, FIELDS, "jsonl:1: column 'json' is missing"),
        ({"json": {"total": 5}}, {"total": "number", "tax": "number"},
         "jsonl:1: no row up to here has the field 'tax' of task.fields"),
    ],
)  # fmt: skip
def test_unsuitable_data_is_one_sentence_with_its_place(
    row: dict[str, Any], fields: dict[str, Any], message: str, tmp_path: Path
) -> None:
    write_split(tmp_path, "train", [row])
    with pytest.raises(DataError, match=message):
        load_training_split(Jsonl(path=str(tmp_path)), Json(fields=fields), "train", seed=0)


def test_without_any_field_in_the_data_there_is_nothing_to_infer(tmp_path: Path) -> None:
    write_split(tmp_path, "train", [{"json": {}}])
    with pytest.raises(DataError, match="jsonl:1: no row up to here has a field"):
        load_training_split(Jsonl(path=str(tmp_path)), Json(), "train", seed=0)


def test_a_complete_suffix_is_the_target() -> None:
    row = replace(make_row({}), prefix="read", suffix='{"items": [{"name": "TEA"}]}')
    example = Json(fields=FIELDS).example(row)
    assert (example.prefix, example.suffixes) == ("read", (row.suffix,))
    assert example.reference == ('{"items":[{"name":"tea"}]}',)
    with pytest.raises(DataError, match=r"jsonl:1: .*no JSON object\), got 'x'"):
        Json(fields=FIELDS).example(replace(row, suffix="x"))


def test_constraints_need_declared_fields() -> None:
    with pytest.raises(DataError, match=r"task\.fields must be set for evaluation\.constrained"):
        Json().grammar("extract json")
    with pytest.raises(ValueError, match=r"task\.fields\.total must be text, lowercase, number"):
        Json(fields={"total": "money"})


def test_without_declaration_an_answer_has_the_fields_it_names() -> None:
    assert Json().parse('{"b": 1, "a": "x"}', (8, 8)) == '{"b":1,"a":"x"}'
    assert Json().parse("{}", (8, 8)) == "{}"
