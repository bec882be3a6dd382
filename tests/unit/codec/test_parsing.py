"""JSON has one meaning, whichever library reads or writes it."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from palitune.codec import parsing
from palitune.codec.parsing import dump_json, format_json


def test_written_json_is_strict() -> None:
    content = {"a": float("nan"), "b": [float("inf"), 1.5, (float("-inf"),)], "é": "ü"}
    assert format_json(content) == '{"a": null, "b": [null, 1.5, [null]], "é": "ü"}'


def documents(numbers: st.SearchStrategy[float]) -> st.SearchStrategy[object]:
    return st.recursive(
        st.one_of(st.none(), st.booleans(), numbers, st.text()),
        lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
    )


any_number = st.one_of(
    st.integers(-(2**70), 2**70), st.floats(), st.sampled_from([2**63 - 1, 2**64, -(2**63) - 1])
)
written_number = st.one_of(
    st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False)
)


@settings(max_examples=60)
@given(documents(any_number), st.booleans(), st.data())
def test_json_means_what_python_reads(
    document: object, ascii_only: bool, data: st.DataObject
) -> None:
    text = json.dumps(document, ensure_ascii=ascii_only)
    if data.draw(st.booleans()):  # damaged, or with another number
        start = data.draw(st.integers(0, len(text)))
        extra = data.draw(st.sampled_from(["", "1e400", "NaN", "-0", '"\\ud800"', "\t", ",", "\0"]))
        text = text[:start] + extra + text[start + 1 :]
    try:
        expected = repr(json.loads(text))
    except ValueError:
        expected = None
    common = parsing._parse_common(text.encode("utf-8", "surrogatepass"))
    assert common is None or repr(common) == expected


def test_nesting_beyond_pythons_limit_is_refused() -> None:
    for depth in (501, 1000, 200_000):
        assert parsing._parse_common(b"[" * depth + b"]" * depth) is None


@settings(max_examples=40)
@given(documents(written_number))
def test_dumped_json_is_read_back(document: object) -> None:
    assert repr(json.loads(dump_json(document))) == repr(document)
