import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palitune.records import Instance
from palitune.report.pages.example_cards import ExampleCard, diff_segments, grade, show_whitespace
from palitune.report.pages.example_cards import build_example_card as card_of
from palitune.report.pages.example_selection import SelectedExample
from palitune.report.run_reader import EvaluatedExample, ScoredPrediction

BOAT = Instance(label="boat", box=(1, 2, 30, 40))


def example(
    reference: tuple[str, ...] | tuple[Instance, ...], after: ScoredPrediction
) -> EvaluatedExample:
    return EvaluatedExample(
        id="page-1",
        part="ocr",
        images=("gone.png",),
        size=(112, 112),
        prefix="ocr",
        reference=reference,
        after=after,
        before=None,
    )


def card(judged: EvaluatedExample) -> ExampleCard:
    """The card of an example that stands in a gallery."""
    return card_of(SelectedExample(judged, {"sample": 0}))


@given(st.text(max_size=40), st.text(max_size=40))
def test_marks_change_no_character(text: str, other: str) -> None:
    first, second = diff_segments(text, other)
    assert "".join(piece for piece, _ in first) == text
    assert "".join(piece for piece, _ in second) == other


@given(st.text(min_size=1, max_size=40))
def test_equal_texts_have_no_marks(text: str) -> None:
    assert diff_segments(text, text) == (((text, False),), ((text, False),))


def test_what_differs_is_marked_on_both_sides() -> None:
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
    shown = card(
        example(("240",), ScoredPrediction(text="247\n", value="247", scores={"exact_match": 0.0}))
    )
    assert [line.caption for line in shown.texts] == ["reference", "prediction"]
    assert shown.texts[1].segments == ((("24", False), ("7", True)),)
    assert ("prediction, raw text", "247⏎") in shown.details


def test_the_nearest_of_several_references_is_compared() -> None:
    answer = ScoredPrediction(text="240", value="240", scores={"exact_match": 0.0})
    shown = card(example(("abc", "241"), answer))
    assert shown.texts[0].caption == "references"
    assert shown.texts[1].segments[0] == (("24", False), ("0", True))


def test_a_box_card_compares_before_and_after() -> None:
    answer = ScoredPrediction(text="<loc…> boat", value=(BOAT,), scores={"f1@.5": 1.0})
    before = ScoredPrediction(text="?", value=None, scores={"f1@.5": 0.0})
    shown = card(dataclasses.replace(example((BOAT,), answer), before=before))
    assert shown.wide
    assert (shown.change, shown.improved) == ("+1.000", True)
    assert (shown.normalized_score, shown.score_gain) == (1.0, 1.0)


def test_a_fallen_error_rate_is_a_change_for_the_better() -> None:
    after = ScoredPrediction(text="24", value="24", scores={"character_error_rate": 0.25})
    before = ScoredPrediction(text="9", value="9", scores={"character_error_rate": 1.0})
    shown = card(dataclasses.replace(example(("240",), after), before=before))
    assert (shown.change, shown.improved) == ("−0.750", True)


def test_an_equal_score_is_no_change() -> None:
    answer = ScoredPrediction(text="24", value="24", scores={"exact_match": 1.0})
    shown = card(dataclasses.replace(example(("24",), answer), before=answer))
    assert (shown.change, shown.improved) == ("", None)


def test_a_malformed_answer_of_boxes_is_shown_as_the_text_it_is() -> None:
    answer = ScoredPrediction(text="<loc0001> boat", value=None, scores={"f1@.5": 0.0})
    shown = card(example((BOAT,), answer))
    assert [(line.caption, line.malformed) for line in shown.texts] == [("prediction", True)]
    assert shown.texts[0].segments == ((("<loc0001> boat", False),),)


def test_the_exact_texts_in_and_out_are_told_with_their_newlines() -> None:
    answer = ScoredPrediction(text="24\t\n7\n", value="24 7", scores={"exact_match": 0.0})
    judged = dataclasses.replace(example(("240",), answer), suffixes=("240", "two four"))
    assert dict(card(judged).details) == {
        "into the model, after image and <bos>": "ocr⏎",
        "to write, one of": "240\ntwo four",
        "prediction, raw text": "24⇥\t⏎\n7⏎",
        "prediction, scores": "exact_match 0.000",
    }


@given(st.text())
def test_marks_of_newlines_and_tabs_lose_nothing(text: str) -> None:
    assert (
        "⏎" in text
        or "⇥" in text
        or show_whitespace(f"{text}\n").count("⏎") == text.count("\n") + 1
    )


def test_an_empty_answer_has_no_pieces() -> None:
    shown = card(
        example(("240",), ScoredPrediction(text="", value="", scores={"exact_match": 0.0}))
    )
    assert shown.texts[1].segments == ((),)


def test_a_very_long_text_is_cut_and_says_so() -> None:
    long = "word " * 4000
    answer = ScoredPrediction(text=long, value=long, scores={"exact_match": 0.0})
    shown = card(dataclasses.replace(example((long,), answer), prefix=long))
    small = card_of(SelectedExample(example((long,), answer), {}))
    assert shown.prefix.endswith("… [17000 characters more in predictions.jsonl]")
    for one, most in ((shown, 30_000), (small, 3_000)):
        texts = [t for line in one.texts for text in line.segments for t, _ in text]
        assert sum(map(len, [one.prefix, *texts, *(text for _, text in one.details)])) < most


def test_galleries_and_confusions_are_written_for_the_page() -> None:
    answer = ScoredPrediction(text="7", value="7", scores={})
    pairs = [("7", "1"), ("", "7"), ("7", "1")]
    shown = card_of(SelectedExample(example(("7",), answer), {"worst": 3}), confusion_pairs=pairs)
    assert shown.gallery_positions == '{"worst": 3}'
    assert shown.confusion_pairs == '[["", "7"], ["7", "1"]]'
    assert not shown.small
    assert card_of(SelectedExample(example(("7",), answer), {})).small
