"""Paths of values in records, and the size of minival."""

from typing import Any

import pytest

from palitune.data.benchmarks.layout import Column, minival_count, value_at

RECORD = {"a": {"b": [{"c": 1}, {"c": 2}, {}]}, "text": "x", "none": None}


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("text", "x"),
        ("absent", None),
        ("none.deeper", None),
        ("a.b.1.c", 2),
        ("a.b.7.c", None),
        ("a.b.*.c", [1, 2, None]),
        ("a.b.*", [{"c": 1}, {"c": 2}, {}]),
        ("none.*.c", None),
        (lambda record: record["text"] * 2, "xx"),
    ],
)
def test_a_column_is_a_path_or_a_function(column: Column, value: Any) -> None:
    assert value_at(RECORD, column) == value


def test_the_size_of_minival_is_a_number_or_a_fraction() -> None:
    assert (minival_count(10_240, 200_000), minival_count(0.05, 39_463)) == (10_240, 1973)
