import math

from palitune.report.pages.example_selection import (
    at_random,
    best_scored,
    main_score,
    malformed_examples,
    most_changed,
    normalized_score,
    score_gain,
    select_examples,
    worst,
)
from palitune.report.run_reader import EvaluatedExample, ScoredPrediction


def answer(**scores: float) -> ScoredPrediction:
    return ScoredPrediction(text="", value="", scores=scores)


def evaluated(
    name: str, after: ScoredPrediction, before: ScoredPrediction | None = None
) -> EvaluatedExample:
    return EvaluatedExample(
        id=name,
        part="ocr",
        images=(),
        size=(1, 1),
        prefix="ocr",
        reference=("7",),
        after=after,
        before=before,
    )


def names(examples: list[EvaluatedExample]) -> list[str]:
    return [example.id for example in examples]


def test_the_sample_is_the_same_every_time_and_keeps_the_order_of_the_file() -> None:
    examples = [evaluated(str(index), answer(anls_rrc=1.0)) for index in range(100)]
    sample = at_random(examples, 12)
    assert names(sample) == names(at_random(examples, 12))
    assert [int(name) for name in names(sample)] == sorted(int(name) for name in names(sample))
    assert names(sample) != names(at_random(examples, 12, seed=1))


def test_a_sample_of_few_examples_is_all_of_them() -> None:
    examples = [evaluated(str(index), answer()) for index in range(3)]
    assert at_random(examples, 12) == examples


def test_the_worst_come_first_and_ties_go_by_the_next_score() -> None:
    examples = [
        evaluated("near", answer(exact_match=0.0, character_error_rate=0.1)),
        evaluated("right", answer(exact_match=1.0, character_error_rate=0.0)),
        evaluated("far", answer(exact_match=0.0, character_error_rate=0.9)),
    ]
    assert names(worst(examples, 5)) == ["far", "near"]


def test_a_high_error_rate_is_bad() -> None:
    assert normalized_score(answer(character_error_rate=0.0)) == 1.0
    assert normalized_score(answer(character_error_rate=1.5)) == -0.5


def test_a_caption_is_perfect_at_ten() -> None:
    assert normalized_score(answer(cider_d=10.0)) == 1
    examples = [evaluated("half", answer(cider_d=5.0)), evaluated("poor", answer(cider_d=0.4))]
    assert names(worst(examples, 5)) == ["poor", "half"]


def test_examples_without_a_score_are_not_among_the_worst() -> None:
    assert main_score(answer(anls_rrc=math.nan)) is None
    assert worst([evaluated("none", answer(anls_rrc=math.nan))], 5) == []


def test_the_main_score_is_the_first_that_is_defined() -> None:
    assert main_score(answer(anls_rrc=math.nan, exact_match=0.5)) == ("exact_match", 0.5)


def test_most_changed_sorts_by_the_size_of_the_change() -> None:
    examples = [
        evaluated("up", answer(anls_rrc=0.6), answer(anls_rrc=0.5)),
        evaluated("far up", answer(anls_rrc=1.0), answer(anls_rrc=0.0)),
        evaluated("same", answer(anls_rrc=0.5), answer(anls_rrc=0.5)),
        evaluated("down", answer(anls_rrc=0.2), answer(anls_rrc=0.5)),
        evaluated("new", answer(anls_rrc=1.0)),
    ]
    assert names(most_changed(examples, 5, better=True)) == ["far up", "up"]
    assert names(most_changed(examples, 5, better=False)) == ["down"]


def test_a_change_compares_the_same_score() -> None:
    other = evaluated("x", answer(anls_rrc=1.0), answer(exact_match=0.0))
    assert math.isnan(score_gain(other))


def test_the_best_come_first_and_zero_scores_are_left_out() -> None:
    examples = [
        evaluated("half", answer(f1=0.5)),
        evaluated("zero", answer(f1=0.0)),
        evaluated("full", answer(f1=1.0)),
        evaluated("none", answer()),
    ]
    assert names(best_scored(examples, 5)) == ["full", "half"]


def test_malformed_examples_have_no_value() -> None:
    malformed = ScoredPrediction(text="<loc", value=None, scores={})
    examples = [evaluated("read", answer()), evaluated("a", malformed), evaluated("b", malformed)]
    assert names(malformed_examples(examples, 5)) == ["a", "b"]
    assert names(malformed_examples(examples, 1)) == ["a"]


def test_an_example_is_selected_once_with_its_position_in_every_gallery() -> None:
    examples = [evaluated(str(index), answer(f1=index / 40)) for index in range(40)]
    chosen = select_examples(examples, max_examples=0)
    assert names([entry.example for entry in chosen]) == sorted(
        names([entry.example for entry in chosen]), key=int
    )
    first = chosen[0]
    assert (first.example.id, first.gallery_positions["worst"]) == ("0", 0)
    assert all(entry.gallery_positions for entry in chosen)
    assert {"sample", "worst", "best"} == {
        key for entry in chosen for key in entry.gallery_positions
    }


def test_other_examples_fill_a_part_up_to_the_maximum() -> None:
    examples = [evaluated(str(index), answer(f1=1.0)) for index in range(100)]
    chosen = select_examples(examples, max_examples=50)
    assert len(chosen) == 50
    assert {entry.example.id for entry in select_examples(examples, max_examples=0)} <= {
        c.example.id for c in chosen
    }
    assert len(select_examples(examples, max_examples=1000)) == 100
