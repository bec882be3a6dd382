"""Error rates beside jiwer, and what jiwer does not have: several references per example."""

import math

import jiwer
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palitune.metrics.text.error_rate import character_error_rate, word_error_rate

TEXT = st.text("ab \n\t\u00a0é", max_size=12)
PAIRS = st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=5)


@given(PAIRS)
def test_both_rates_equal_jiwer_over_a_corpus(pairs: list[tuple[str, str]]) -> None:
    hypotheses, references = [a for a, _ in pairs], [b for _, b in pairs]
    expected = jiwer.cer(references, hypotheses), jiwer.wer(references, hypotheses)
    assert character_error_rate(hypotheses, references) == pytest.approx(expected[0], abs=1e-12)
    assert word_error_rate(hypotheses, references) == pytest.approx(expected[1], abs=1e-12)


@pytest.mark.parametrize(
    ("hypothesis", "reference", "characters", "words"),
    [
        ("hello world", "hello world", 0, 0),
        (" hello   world ", "hello world", 2 / 11, 0),
        ("hello", "hello world", 6 / 11, 1 / 2),
        ("", "abc", 1, 1),
        ("a b c", "a", 4, 2),  # a rate may exceed one
        ("abc", "", 3, 1),  # nothing to find: the number of insertions
        ("", "", 0, 0),
        ("a\nb", "a b", 1 / 3, 1),  # as in jiwer a lone line break does not part words
    ],
)
def test_rates_of_one_example(
    hypothesis: str, reference: str, characters: float, words: float
) -> None:
    assert character_error_rate([hypothesis], [reference]) == pytest.approx(characters)
    assert word_error_rate([hypothesis], [reference]) == pytest.approx(words)


def test_the_corpus_rate_is_not_the_mean_of_the_rates() -> None:
    assert character_error_rate(["a" * 10, "cd"], ["a" * 10, "b"]) == pytest.approx(2 / 11)


def test_of_several_references_the_one_with_the_fewest_edits_counts() -> None:
    assert word_error_rate(["a b c"], [["x y", "a b d e"]]) == pytest.approx(2 / 4)
    assert character_error_rate(["ab", "cd"], [("ab", "xyz"), "cx"]) == pytest.approx(1 / 4)


@given(TEXT, st.lists(TEXT, min_size=1, max_size=4))
def test_the_order_of_references_does_not_matter(hypothesis: str, references: list[str]) -> None:
    forward = character_error_rate([hypothesis], [references])
    assert forward == character_error_rate([hypothesis], [references[::-1]])


def test_an_empty_corpus_is_nan() -> None:
    assert math.isnan(character_error_rate([], []))
    assert math.isnan(word_error_rate([], []))


def test_lists_of_unequal_length_and_no_reference_are_refused() -> None:
    with pytest.raises(ValueError, match="2 hypotheses but 1 references"):
        word_error_rate(["a", "b"], ["a"])
    with pytest.raises(ValueError, match="no reference"):
        word_error_rate(["a"], [[]])
