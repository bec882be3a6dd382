"""VQA accuracy against tables written out by hand from what the official scripts do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palitune.metrics.text.vqa_accuracy import VqaVariant, vqa_accuracy

VARIANTS: list[VqaVariant] = ["official", "textvqa", "plain"]
WORDS = st.lists(
    st.sampled_from(["a", "two", "3.", "1,000", "he's", "hes", "x/y", " ", "?", ".5", "\n"]),
    max_size=3,
).map("".join)


@pytest.mark.parametrize("variant", ["official", "textvqa"])
@pytest.mark.parametrize(("equal", "score"), enumerate([0, 0.3, 0.6, 0.9, 1, 1, 1, 1, 1, 1, 1]))
def test_equal_answers_out_of_ten_score_by_leaving_one_out(
    variant: VqaVariant, equal: int, score: float
) -> None:
    answers = ["cat"] * equal + ["dog"] * (10 - equal)
    assert vqa_accuracy("cat", answers, variant=variant) == pytest.approx(score, abs=1e-12)


@pytest.mark.parametrize(("equal", "score"), [(0, 0), (1, 1 / 3), (2, 2 / 3), (3, 1), (10, 1)])
def test_plain_counts_all_annotators_by_thirds(equal: int, score: float) -> None:
    answers = ["cat"] * equal + ["dog"] * (10 - equal)
    assert vqa_accuracy("cat", answers, variant="plain") == pytest.approx(score)


@pytest.mark.parametrize(
    ("answer", "annotated", "official", "textvqa"),
    [
        ("Yes", "yes", True, True),
        ("3.", "3", True, True),
        ("1.5", "15", False, False),
        (".5", "5", False, False),
        ("1.5.", "1.5", True, True),
        ("1,000", "1000", True, True),
        ("1,000-2", "10002", True, False),  # digit-comma-digit lets every mark vanish
        ("1,000-2", "1000 2", False, True),
        ("red-blue", "red blue", True, True),
        ("red- blue", "red blue", True, True),
        ("red -blue", "redblue", False, False),
        ("x/y, z", "x y z", True, True),
        ("what?", "what", True, True),
        ("a?b", "b", True, False),  # a blank leaves the article "a"; TextVQA deletes the mark first
        ("c?b", "c b", True, False),
        ("c?b", "cb", False, True),
        ("two", "2", True, True),
        ("none", "0", True, True),
        ("zero", "0", True, True),
        ("ten", "10", True, True),
        ("eleven", "11", False, False),
        ("the cat", "a cat", True, True),
        ("the", "an", True, True),
        ("dont", "don't", True, True),
        ("hes", "he's", True, False),
        ("he's", "he 's", False, True),
        ("somebody'd", "somebodyd", True, True),
        ("couldnt've", "couldn'tve", True, True),
        ("couldntve", "couldn't've", False, False),
        ("im", "i'm", False, False),  # the table's "Im" never matches a lower-cased word
        ("x\ty\nz", "x y z", True, True),
        ("it's:", "it's", False, False),
        ("5%", "5", False, False),
        ("x" + "." * 32, "x", True, True),
        ("x" + "." * 33, "x", False, False),  # only 32 periods go
    ],
)
def test_answers_match_after_the_normalisation_of_the_variant(
    answer: str, annotated: str, official: bool, textvqa: bool
) -> None:
    answers = [annotated] * 9 + ["something else"]
    assert vqa_accuracy(answer, answers, variant="official") == float(official)
    assert vqa_accuracy(answer, answers, variant="textvqa") == float(textvqa)


@pytest.mark.parametrize(
    ("answer", "official", "textvqa"),
    [("yes", 1, 1), ("Yes", 0, 1), ("yes.", 0, 1), (" yes\n", 1, 1)],
)
def test_official_compares_as_written_where_all_annotators_agree(
    answer: str, official: float, textvqa: float
) -> None:
    assert vqa_accuracy(answer, ["yes", " yes"] * 5, variant="official") == official
    assert vqa_accuracy(answer, ["yes", " yes"] * 5, variant="textvqa") == textvqa


def test_one_annotator_leaves_nobody_to_agree() -> None:
    assert vqa_accuracy("cat", ["cat"], variant="official") == 0
    assert vqa_accuracy("cat", ["cat"], variant="textvqa") == 0
    assert vqa_accuracy("cat", ["cat"], variant="plain") == pytest.approx(1 / 3)


def test_plain_is_case_sensitive_and_keeps_articles() -> None:
    assert vqa_accuracy("Cat", ["cat"] * 10, variant="plain") == 0
    assert vqa_accuracy("the cat", ["cat"] * 10, variant="plain") == 0


@given(WORDS, st.lists(WORDS, min_size=1, max_size=10), st.sampled_from(VARIANTS))
def test_accuracy_is_a_fraction_that_no_order_of_annotators_changes(
    answer: str, answers: list[str], variant: VqaVariant
) -> None:
    score = vqa_accuracy(answer, answers, variant=variant)
    assert 0 <= score <= 1
    assert score == vqa_accuracy(answer, answers[::-1], variant=variant)


@given(WORDS, st.integers(4, 10))
def test_four_annotators_who_say_the_same_are_enough(answer: str, annotators: int) -> None:
    for variant in VARIANTS:
        assert vqa_accuracy(answer, [answer] * annotators, variant=variant) == 1


def test_no_annotator_and_an_unknown_variant_are_refused() -> None:
    with pytest.raises(ValueError, match="no reference"):
        vqa_accuracy("a", [])
    with pytest.raises(ValueError, match="'vqav2' is not one of official, textvqa, plain"):
        vqa_accuracy("a", ["a"], variant="vqav2")  # type: ignore[arg-type]
