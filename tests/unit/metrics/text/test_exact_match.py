import pytest

from palitune.metrics.text.exact_match import exact_match, normalize_number


@pytest.mark.parametrize(
    ("answer", "references", "as_is", "lower"),
    [
        ("cat", ["cat"], 1, 1),
        ("Cat", ["cat"], 0, 1),
        ("cat", ["dog", "CAT"], 0, 1),
        ("cat ", ["cat"], 0, 0),
        ("", [""], 1, 1),
        ("cat", [], 0, 0),
    ],
)
def test_an_answer_matches_a_reference_exactly(
    answer: str, references: list[str], as_is: float, lower: float
) -> None:
    assert exact_match(answer, references) == as_is
    assert exact_match(answer, references, normalize=str.lower) == lower


@pytest.mark.parametrize(
    ("answer", "reference", "right"),
    [
        ("two", "2", 1),
        ("2", "two", 1),
        ("Two", "TWO", 1),
        ("none", "0", 1),
        ("zero", "none", 1),
        ("twenty", "20", 1),
        ("twenty-one", "21", 0),
        ("two dogs", "2 dogs", 0),  # whole answers only
        ("2 ", "2", 0),
        ("02", "2", 0),
        ("many", "many", 1),
    ],
)
def test_number_words_are_numbers(answer: str, reference: str, right: float) -> None:
    assert exact_match(answer, [reference], normalize=normalize_number) == right
