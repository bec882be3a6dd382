"""ANLS against literals of both variants, and against the formula written out with plain loops."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palitune.metrics.text.anls import AnlsVariant, anls

TEXT = st.text("aAbßİ \t", max_size=6)


def edits(a: str, b: str) -> int:
    row = list(range(len(b) + 1))
    for i, left in enumerate(a, start=1):
        diagonal, row[0] = row[0], i
        for j, right in enumerate(b, start=1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (left != right))
    return row[-1]


@pytest.mark.parametrize(
    ("answer", "reference", "rrc", "paper"),
    [
        ("paris", "Paris", 1.0, 1.0),
        ("kitten", "sitting", 1 - 3 / 7, 1 - 3 / 7),
        ("abcd", "wxyz", 0.0, 0.0),
        ("ab", "ac", 0.5, 0.0),  # exactly half: kept by the server, dropped by the paper
        ("abc", "azz", 0.0, 0.0),
        ("new  york", "New York", 1.0, 1 - 1 / 9),  # white space collapses in one only
        (" paris ", "paris", 1.0, 1 - 2 / 7),
        ("   ", "a", 1 - 1 / 3, 0.0),  # the raw three spaces are the length
        ("ß", "s", 0.5, 0.0),  # "ß" in upper case has length two
        ("", "", 1.0, 1.0),
        ("x", "", 0.0, 0.0),
        ("", "x", 0.0, 0.0),
        (" ", "", 1.0, 0.0),
    ],
)
def test_each_variant_scores_as_its_source(
    answer: str, reference: str, rrc: float, paper: float
) -> None:
    assert anls(answer, [reference], variant="rrc") == pytest.approx(rrc)
    assert anls(answer, [reference], variant="paper") == pytest.approx(paper)


@given(TEXT, TEXT)
def test_rrc_is_the_formula_of_the_official_script(answer: str, reference: str) -> None:
    distance = edits(" ".join(answer.lower().split()), " ".join(reference.lower().split()))
    length = max(len(answer.upper()), len(reference.upper()))
    expected = 1 - (distance / length if length else 0)
    assert anls(answer, [reference], variant="rrc") == (expected if expected >= 0.5 else 0)


@given(TEXT, TEXT.filter(bool))
def test_paper_is_the_formula_with_a_strict_threshold(answer: str, reference: str) -> None:
    answer, reference = answer.lower(), reference.lower()
    distance = edits(answer, reference) / max(len(answer), len(reference))
    assert anls(answer, [reference], variant="paper") == (1 - distance if distance < 0.5 else 0)


@given(TEXT, st.lists(TEXT, min_size=1, max_size=4), st.sampled_from(["rrc", "paper"]))
def test_the_best_reference_counts_whatever_the_order(
    answer: str, references: list[str], variant: AnlsVariant
) -> None:
    score = anls(answer, references, variant=variant)
    assert score == max(anls(answer, [reference], variant=variant) for reference in references)
    assert score == anls(answer, references[::-1], variant=variant)
    assert 0 <= score <= 1
    assert anls(answer, [*references, answer], variant=variant) == 1


def test_no_reference_is_refused_in_a_sentence() -> None:
    with pytest.raises(ValueError, match="no reference to score the answer against"):
        anls("a", [])


def test_an_unknown_variant_is_refused_with_the_valid_ones() -> None:
    with pytest.raises(ValueError, match="'server' is not one of rrc, paper"):
        anls("a", ["a"], variant="server")  # type: ignore[arg-type]
