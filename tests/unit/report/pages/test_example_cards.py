import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palitune.records import Instance
from palitune.report.pages.cards import ExampleCard
from palitune.report.pages.example_cards import (
    build_example_card,
    diff_segments,
    grade,
    show_whitespace,
)
from palitune.report.pages.example_selection import SelectedExample
from palitune.report.run_reader import EvaluatedExample, ScoredPrediction

BOAT = Instance(label="boat", box=(1, 2, 30, 40))


def example(
    reference: tuple[str, ...] | tuple[Instance, ...], after: ScoredPrediction
) -> EvaluatedExample:
    return EvaluatedExample(
        id="page-1",
        part="ocr",
        images=("missing.png",),
        size=(112, 112),
        prefix="ocr",
        reference=reference,
        after=after,
        before=None,
    )


def gallery_card(evaluated: EvaluatedExample) -> ExampleCard:
    """Build the card of an example in a gallery."""
    return build_example_card(SelectedExample(evaluated, {"sample": 0}))


@given(st.text(max_size=40), st.text(max_size=40))
def test_marks_change_no_character(text: str, other: str) -> None:
    first, second = diff_segments(text, other)
    assert "".join(piece for piece, _ in first) == text
    assert "".join(piece for piece, _ in second) == other


@given(st.text(min_size=1, max_size=40))
def test_equal_texts_have_no_marks(text: str) -> None:
    assert diff_segments(text, text) == (((text, False),), ((text, False),))


def test_differences_are_marked_in_both_texts() -> None:
    assert diff_segments("247", "240") == (
        (("24", False), ("7", True)),
        (("24", False), ("0", True)),
    )


def test_texts_that_have_nothing_in_common_are_not_marked() -> None:
    assert diff_segments("boat", "1234") == ((("boat", False),), (("1234", False),))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (ScoredPrediction(text="x", value=None, scores={"anls_rrc": 0.0}), "malformed"),
        (ScoredPrediction(text="x", value="x", scores={"anls_rrc": 1.0}), "full"),
        (ScoredPrediction(text="x", value="x", scores={"anls_rrc": 0.5}), "partial"),
        (ScoredPrediction(text="x", value="x", scores={"character_error_rate": 1.25}), "zero"),
        (ScoredPrediction(text="x", value="x", scores={}), "unscored"),
    ],
)
def test_answers_are_graded_by_their_main_score(answer: ScoredPrediction, expected: str) -> None:
    assert grade(answer) == expected


def test_a_text_card_shows_reference_and_prediction_beside_the_image() -> None:
    card = gallery_card(
        example(("240",), ScoredPrediction(text="247\n", value="247", scores={"exact_match": 0.0}))
    )
    assert [text.caption for text in card.texts] == ["reference", "prediction"]
    assert card.texts[1].segments == ((("24", False), ("7", True)),)
    assert ("Prediction: generated text", "247⏎") in card.details


def test_the_nearest_of_several_references_is_compared() -> None:
    answer = ScoredPrediction(text="240", value="240", scores={"exact_match": 0.0})
    card = gallery_card(example(("abc", "241"), answer))
    assert card.texts[0].caption == "references"
    assert card.texts[1].segments[0] == (("24", False), ("0", True))


def test_a_box_card_compares_before_and_after() -> None:
    answer = ScoredPrediction(text="<loc…> boat", value=(BOAT,), scores={"f1@.5": 1.0})
    before = ScoredPrediction(text="?", value=None, scores={"f1@.5": 0.0})
    card = gallery_card(dataclasses.replace(example((BOAT,), answer), before=before))
    assert (card.change, card.improved) == ("+1.000", True)
    assert (card.normalized_score, card.score_gain) == (1.0, 1.0)


def test_a_lower_error_rate_is_an_improvement() -> None:
    after = ScoredPrediction(text="24", value="24", scores={"character_error_rate": 0.25})
    before = ScoredPrediction(text="9", value="9", scores={"character_error_rate": 1.0})
    card = gallery_card(dataclasses.replace(example(("240",), after), before=before))
    assert (card.change, card.improved) == ("−0.750", True)


def test_an_equal_score_is_no_change() -> None:
    answer = ScoredPrediction(text="24", value="24", scores={"exact_match": 1.0})
    card = gallery_card(dataclasses.replace(example(("24",), answer), before=answer))
    assert (card.change, card.improved) == ("", None)


def test_a_malformed_answer_of_boxes_is_shown_as_the_text_it_is() -> None:
    answer = ScoredPrediction(text="<loc0001> boat", value=None, scores={"f1@.5": 0.0})
    card = gallery_card(example((BOAT,), answer))
    assert [(text.caption, text.grade) for text in card.texts] == [("prediction", "malformed")]
    assert card.texts[0].segments == ((("<loc0001> boat", False),),)


def test_details_have_the_exact_input_target_and_generated_text() -> None:
    answer = ScoredPrediction(text="24\t\n7\n", value="24 7", scores={"exact_match": 0.0})
    evaluated = dataclasses.replace(example(("240",), answer), suffixes=("240", "two four"))
    assert dict(gallery_card(evaluated).details) == {
        "Input text (after the image tokens and <bos>)": "ocr⏎",
        "Target text, one of": "240\ntwo four",
        "Prediction: generated text": "24⇥\t⏎\n7⏎",
        "Prediction: scores": "exact_match 0.000",
    }


@given(st.text())
def test_newlines_are_marked_without_loss(text: str) -> None:
    assert (
        "⏎" in text
        or "⇥" in text
        or show_whitespace(f"{text}\n").count("⏎") == text.count("\n") + 1
    )


def test_an_empty_answer_has_no_segments() -> None:
    card = gallery_card(
        example(("240",), ScoredPrediction(text="", value="", scores={"exact_match": 0.0}))
    )
    assert card.texts[1].segments == ((),)


def test_a_very_long_text_is_cut_with_a_note() -> None:
    long = "word " * 4000
    answer = ScoredPrediction(text=long, value=long, scores={"exact_match": 0.0})
    card = gallery_card(dataclasses.replace(example((long,), answer), prefix=long))
    small = build_example_card(SelectedExample(example((long,), answer), {}))
    assert card.prefix.endswith("… [17000 more characters in predictions.jsonl]")
    for long_card, max_length in ((card, 30_000), (small, 3_000)):
        texts = [t for line in long_card.texts for text in line.segments for t, _ in text]
        details = [text for _, text in long_card.details]
        assert sum(map(len, [long_card.prefix, *texts, *details])) < max_length


def test_a_card_has_its_galleries_and_distinct_confusions() -> None:
    answer = ScoredPrediction(text="7", value="7", scores={})
    pairs = [("7", "1"), ("", "7"), ("7", "1")]
    card = build_example_card(
        SelectedExample(example(("7",), answer), {"worst": 3}), confusion_pairs=pairs
    )
    assert card.gallery_positions == {"worst": 3}
    assert card.confusion_pairs == (("", "7"), ("7", "1"))
    assert card.labels == ("", "1", "7")
    assert not card.small
    assert build_example_card(SelectedExample(example(("7",), answer), {})).small
