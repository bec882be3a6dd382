import pytest

from palitune.codec.grammar import ObjectGrammar


def test_a_grammar_is_a_value() -> None:
    one, other = (
        ObjectGrammar(("boat",), with_masks=True),
        ObjectGrammar(("boat",), with_masks=True),
    )
    assert one == other
    assert len({one, other, ObjectGrammar(("boat",))}) == 2


def test_no_labels_at_all_are_refused() -> None:
    with pytest.raises(ValueError, match="allows no object"):
        ObjectGrammar(())
