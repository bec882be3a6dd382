"""Declared fields: their forms, normalization as declared, and inference."""

from typing import Any

import pytest

from palitune.codec.json_fields import (
    canonical_json,
    infer_declaration,
    leaf_paths,
    parse_date,
    parse_declaration,
    parse_number,
    read_fields,
    to_declaration,
)

RECEIPT = {"total": "number", "date": "date", "shop": "lowercase", "items": [{"name": "text"}]}


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1,234.50", 1234.5), ("1.234,50", 1234.5), ("12,50", 12.5), ("12,500", 12500),
        ("12.500", 12.5), ("1,234,567", 1234567), ("1.234.567", 1234567), ("€ 12,50", 12.5),
        ("$12.00", 12), ("12 kr", 12), ("Rp 12,000", 12000), ("EUR 7", 7), ("-3", -3),
        ("1'234.5", 1234.5), (7, 7), (7.0, 7), ("x", None), ("", None), (True, None),
        (float("inf"), None), ("12-5", None),
    ],
)  # fmt: skip
def test_numbers_are_read_with_separators_and_currencies(text: Any, number: float | None) -> None:
    assert parse_number(text) == number


@pytest.mark.parametrize(
    ("text", "date"),
    [
        ("2024-01-31", "2024-01-31"), ("31.1.2024", "2024-01-31"), ("31/01/24", "2024-01-31"),
        ("31 Jan 2024", "2024-01-31"), ("January 31, 2024", "2024-01-31"),
        ("2024-01-31T10:00:00", "2024-01-31"), ("31.2.2024", None), ("soon", None), (5, None),
        ("31 Foo 2024", None),
    ],
)  # fmt: skip
def test_dates_are_read_day_first(text: Any, date: str | None) -> None:
    assert parse_date(text) == date
    assert parse_date("1/31/2024", month_first=True) == "2024-01-31"


def test_fields_have_the_declared_order_and_the_declared_forms() -> None:
    text = '{"items": [{"name": " Tea "}], "shop": "ABC", "date": "31.1.2024", "total": "1,234.5"}'
    values = read_fields(text, parse_declaration(RECEIPT))
    assert values is not None
    assert canonical_json(values.target) == (
        '{"total":1234.5,"date":"2024-01-31","shop":"ABC","items":[{"name":"Tea"}]}'
    )
    assert values.compared["shop"] == "abc"
    assert not values.repairs
    start, end = values.places["items[0].name"]
    assert text[start:end] == '" Tea "'


def test_departures_from_the_declaration_are_reported_and_the_rest_is_kept() -> None:
    text = '{"total": "much", "tax": 1, "date": {"y": 1}, "items": {"name": "Tea"}}'
    values = read_fields(text, parse_declaration(RECEIPT))
    assert values is not None
    assert values.target == {"total": "much", "items": [{"name": "Tea"}]}
    assert values.unknown == ["tax"]
    assert values.repairs == [
        'total must be a number, got "much"',
        'date must be a single value, got {"y": 1}',
    ]
    assert read_fields("nothing", parse_declaration(RECEIPT)) is None


def test_a_declaration_is_inferred_in_the_order_of_first_occurrence() -> None:
    rows = [
        '{"menu": {"nm": "Tea", "cnt": 1}, "paid": true}',
        '{"menu": [{"nm": "Cake", "price": 2.5, "cnt": "2 x"}], "total": 3, "void": null}',
    ]
    declared = infer_declaration((row, f"a:{n}") for n, row in enumerate(rows))
    assert declared == {
        "menu": [{"nm": "text", "cnt": "text", "price": "number"}],
        "paid": "boolean",
        "total": "number",
    }
    assert to_declaration(parse_declaration(declared)) == declared
    assert leaf_paths(parse_declaration(declared))[:2] == ["menu.nm", "menu.cnt"]
    with pytest.raises(ValueError, match="a:1: field 'a' is an object in some rows"):
        infer_declaration([('{"a": {"b": 1}}', "a:0"), ('{"a": 1}', "a:1")])
    with pytest.raises(ValueError, match="a:0: no row up to here has a field"):
        infer_declaration([("{}", "a:0")])


@pytest.mark.parametrize(
    "declared", [{}, {"a": "money"}, {"a": []}, {"a": [["text"]]}, "text", None]
)
def test_an_invalid_declaration_is_an_error(declared: Any) -> None:
    with pytest.raises(ValueError, match=r"^task\.fields.* must be "):
        parse_declaration(declared)
