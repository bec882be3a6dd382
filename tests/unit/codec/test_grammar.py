import pytest

from palitune.codec.grammar import Grammar


def test_a_grammar_is_a_value() -> None:
    one, other = Grammar(("boat",), masks=True), Grammar(("boat",), masks=True)
    assert one == other
    assert len({one, other, Grammar(("boat",))}) == 2


def test_no_labels_at_all_are_refused() -> None:
    with pytest.raises(ValueError, match="allows no object"):
        Grammar(())
