"""An object grammar is a value and refuses contradictions."""

import pytest

from palitune.codec.grammar import ObjectGrammar


def test_equal_grammars_have_equal_hashes() -> None:
    first, second = (ObjectGrammar(("boat",), with_masks=True) for _ in range(2))
    assert first == second
    assert len({first, second, ObjectGrammar(("boat",))}) == 2


def test_a_grammar_without_labels_is_refused() -> None:
    with pytest.raises(ValueError, match="must not be empty"):
        ObjectGrammar(())


def test_fewer_objects_at_most_than_at_least_are_refused() -> None:
    with pytest.raises(ValueError, match="min_objects must be at most max_objects=2, got 3"):
        ObjectGrammar(("boat",), max_objects=2, min_objects=3)
