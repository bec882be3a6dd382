"""Fields of documents as a table."""

import csv
from pathlib import Path

from palitune.report.predictions_csv import FieldTable, flatten, format_confidences


def test_every_field_has_a_value_and_a_confidence(tmp_path: Path) -> None:
    table = FieldTable()
    table.add("1", ["a.png"], '{"total":5,"items":[{"name":"a, \\"b\\""}]}', {"total": 0.5}, [])
    table.add("2", ["b.png", "c.png"], '{"date":"2024-01-31"}', {}, ["the text is cut off"])
    table.add("3", ["d.png"], None, {}, [])
    table.write(tmp_path)
    with (tmp_path / "predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:5] == ["id", "images", "malformed", "total", "total (confidence)"]
    assert rows[0]["total"] == "5"
    assert rows[0]["total (confidence)"] == "0.5000"
    assert rows[0]["items[0].name"] == 'a, "b"'
    assert [row["malformed"] for row in rows] == ["", "the text is cut off", "no fields"]
    assert rows[1]["date"] == "2024-01-31"


def test_predictions_of_other_tasks_have_no_table(tmp_path: Path) -> None:
    table = FieldTable()
    for value in ("two boats", "{", "{}", None, ()):
        table.add("1", ["a.png"], value, {}, [])
    table.write(tmp_path)
    assert not list(tmp_path.iterdir())
    assert flatten({"a": [1, {"b": None}]}) == {"a[0]": 1, "a[1].b": None}
    assert format_confidences({"a": 0.9, "b": 0.25}) == "b 0.25, a 0.90"
