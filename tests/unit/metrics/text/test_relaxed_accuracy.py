import pytest
from hypothesis import given
from hypothesis import strategies as st

from palitune.metrics.text.relaxed_accuracy import relaxed_accuracy


@pytest.mark.parametrize(
    ("answer", "reference", "right"),
    [
        ("5.1", "5", 1),
        ("5.25", "5", 1),
        ("5.26", "5", 0),
        ("1,000", "1000", 0),
        ("1_000", "1000", 1),  # Python reads it as a number
        ("$5", "5", 0),
        ("5", "5%", 0),
        ("5%", "0.05", 1),
        ("0.05", "5%", 1),
        ("0.0", "0", 0),  # a reference of zero is a text
        ("0", "0", 1),
        ("nan", "nan", 0),
        ("inf", "inf", 0),
        (" 5 ", "5", 1),
        ("yes ", "yes", 0),
        ("Yes", "yes", 1),
        ("5", "5", 1),
        ("105", "100", 1),
        ("21", "20", 1),
        ("1.05", "1", 0),  # floating point at the edge
        ("0.95", "1", 0),
        ("2010", "2100", 1),
        ("2010", "2119", 0),
        ("-5", "5", 0),
        ("-5", "-5.1", 1),
        ("", "5", 0),
        ("%", "5", 0),
    ],
)
def test_the_rule_of_pix2struct(answer: str, reference: str, right: float) -> None:
    assert relaxed_accuracy(answer, [reference]) == right


@given(st.floats(0.001, 1e6), st.floats(-0.049, 0.049))
def test_a_number_within_five_percent_is_right_and_beyond_is_not(value: float, off: float) -> None:
    assert relaxed_accuracy(repr(value * (1 + off)), [repr(value)]) == 1
    assert relaxed_accuracy(repr(value * (1.06 + abs(off))), [repr(value)]) == 0


@given(st.text(max_size=5), st.lists(st.text(max_size=5), min_size=1, max_size=3))
def test_any_of_the_references_is_enough(answer: str, references: list[str]) -> None:
    alone = max(relaxed_accuracy(answer, [reference]) for reference in references)
    assert relaxed_accuracy(answer, references) == alone


def test_no_reference_is_refused() -> None:
    with pytest.raises(ValueError, match="no reference to score the answer against"):
        relaxed_accuracy("5", [])
