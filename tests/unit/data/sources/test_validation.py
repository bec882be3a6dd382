"""Helpers for messages."""

from palitune.data.sources.validation import short_repr


def test_a_long_value_is_cut_in_a_message() -> None:
    assert short_repr("x" * 100) == "'" + "x" * 56 + "..."
    assert short_repr([1]) == "[1]"
