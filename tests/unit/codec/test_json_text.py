"""The tolerant parser equals `json.loads` on JSON, and repairs what is not JSON."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palitune.codec.json_text import parse_json_object

TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(TEXTS, VALUES, max_size=4)


@given(OBJECTS, st.sampled_from([None, 1]), st.booleans())
def test_json_is_parsed_as_by_the_standard_library(
    value: dict[str, Any], indent: int | None, ascii_only: bool
) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    node, repairs = parse_json_object(text)
    assert repairs == []
    assert node is not None
    assert node.to_python() == json.loads(text)


@given(st.text(alphabet="{}[]:,\"'\\ a1-.etrufalsn\n“”", max_size=60))
def test_a_text_without_repairs_is_json_and_any_text_ends(text: str) -> None:
    node, repairs = parse_json_object(text)
    if not repairs:
        assert node is not None
        assert node.to_python() == json.loads(text)


@pytest.mark.parametrize(
    ("text", "value", "repair"),
    [
        ("{'a': 'x'}", {"a": "x"}, "wrong quotes"),
        ("{“a”: “x”}", {"a": "x"}, "wrong quotes"),
        ('{"a": 1, "b": "cut', {"a": 1}, "the text is cut off"),
        ('{"a": 1, "b": 12', {"a": 1}, "the text is cut off"),
        ('{"a": [{"b": 1}, {"b"', {"a": [{"b": 1}, {}]}, "the text is cut off"),
        ('{"a": 1,}', {"a": 1}, "missing or additional comma"),
        ("{a: 1}", {"a": 1}, "unquoted name"),
        ('{"a": True}', {"a": True}, "a word of Python"),
        ('sure: {"a": 1}', {"a": 1}, "text before the object"),
        ('{"a": 1} done', {"a": 1}, "text after the object"),
        ('{"a": [1, 2}', {"a": [1, 2]}, "mismatched bracket"),
        ('{"a": "5 " tall"}', {"a": '5 " tall'}, "a quote inside a text"),
    ],
)  # fmt: skip
def test_other_texts_are_repaired(text: str, value: dict[str, Any], repair: str) -> None:
    node, repairs = parse_json_object(text)
    assert node is not None
    assert node.to_python() == value
    assert repairs == [repair]


def test_a_text_without_object_or_too_deep_has_none() -> None:
    assert parse_json_object("total 5") == (None, ["no JSON object"])
    assert parse_json_object("{" + '"a":[' * 5000)[0] is None


def test_the_place_of_a_value_is_its_text() -> None:
    text = '{"a": "x", "b": [12, {"c": null}]}'
    node, _ = parse_json_object(text)
    assert node is not None
    item = node.value["b"].value[0]
    assert text[item.start : item.end] == "12"
    assert text[node.value["a"].start : node.value["a"].end] == '"x"'
