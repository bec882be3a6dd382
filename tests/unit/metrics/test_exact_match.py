import pytest

from palitune.metrics.exact_match import exact_match


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
    assert exact_match(answer, references, normal=str.lower) == lower
