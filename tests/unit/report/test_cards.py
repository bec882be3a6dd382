import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palitune.examples import Instance
from palitune.report.cards import card, differences, grade
from palitune.report.run_folder import Answer, Judged

BOAT = Instance(label="boat", box=(1, 2, 30, 40))


def example(reference: tuple[str, ...] | tuple[Instance, ...], after: Answer) -> Judged:
    return Judged(
        id="page-1",
        part="ocr",
        images=("gone.png",),
        size=(112, 112),
        prefix="ocr",
        reference=reference,
        after=after,
        before=None,
    )


@given(st.text(max_size=40), st.text(max_size=40))
def test_marks_change_no_character(text: str, other: str) -> None:
    first, second = differences(text, other)
    assert "".join(piece for piece, _ in first) == text
    assert "".join(piece for piece, _ in second) == other


@given(st.text(min_size=1, max_size=40))
def test_equal_texts_have_no_marks(text: str) -> None:
    assert differences(text, text) == (((text, False),), ((text, False),))


def test_what_differs_is_marked_on_both_sides() -> None:
    assert differences("247", "240") == (
        (("24", False), ("7", True)),
        (("24", False), ("0", True)),
    )


def test_texts_that_have_nothing_in_common_are_not_marked() -> None:
    assert differences("boat", "1234") == ((("boat", False),), (("1234", False),))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer(text="x", value=None, scores={"anls_rrc": 0.0}), "malformed"),
        (Answer(text="x", value="x", scores={"anls_rrc": 1.0}), "full"),
        (Answer(text="x", value="x", scores={"anls_rrc": 0.5}), "partial"),
        (Answer(text="x", value="x", scores={"character_error_rate": 1.25}), "zero"),
        (Answer(text="x", value="x", scores={}), "unscored"),
    ],
)
def test_answers_are_graded_by_their_main_score(answer: Answer, expected: str) -> None:
    assert grade(answer) == expected


def test_a_text_card_shows_reference_and_prediction_beside_the_image() -> None:
    shown = card(example(("240",), Answer(text="247\n", value="247", scores={"exact_match": 0.0})))
    assert [line.caption for line in shown.lines] == ["reference", "prediction"]
    assert shown.lines[1].texts == ((("24", False), ("7", True)),)
    assert [picture.caption for picture in shown.pictures] == [""]
    assert ("prediction, raw text", "247\n") in shown.details


def test_the_nearest_of_several_references_is_compared() -> None:
    answer = Answer(text="240", value="240", scores={"exact_match": 0.0})
    shown = card(example(("abc", "241"), answer))
    assert shown.lines[0].caption == "references"
    assert shown.lines[1].texts[0] == (("24", False), ("0", True))


def test_a_box_card_shows_reference_prediction_and_before() -> None:
    answer = Answer(text="<loc…> boat", value=(BOAT,), scores={"f1@.5": 1.0})
    before = Answer(text="?", value=None, scores={"f1@.5": 0.0})
    shown = card(dataclasses.replace(example((BOAT,), answer), before=before))
    assert [(p.caption, p.note) for p in shown.pictures] == [
        ("reference", "1 object"),
        ("after", "1 object"),
        ("before", "no objects"),
    ]
    assert shown.pictures[1].alt == "after on gone.png: boat"
    assert all(p.source.startswith("data:image/webp;base64,") for p in shown.pictures)
    assert (shown.change, shown.improved) == ("+1.000", True)


def test_a_fallen_error_rate_is_a_change_for_the_better() -> None:
    after = Answer(text="24", value="24", scores={"character_error_rate": 0.25})
    before = Answer(text="9", value="9", scores={"character_error_rate": 1.0})
    shown = card(dataclasses.replace(example(("240",), after), before=before))
    assert (shown.change, shown.improved) == ("−0.750", True)


def test_an_equal_score_is_no_change() -> None:
    answer = Answer(text="24", value="24", scores={"exact_match": 1.0})
    shown = card(dataclasses.replace(example(("24",), answer), before=answer))
    assert (shown.change, shown.improved) == ("", None)


def test_a_malformed_answer_of_boxes_is_shown_as_the_text_it_is() -> None:
    answer = Answer(text="<loc0001> boat", value=None, scores={"f1@.5": 0.0})
    shown = card(example((BOAT,), answer))
    assert [(line.caption, line.malformed) for line in shown.lines] == [("prediction", True)]
    assert shown.lines[0].texts == ((("<loc0001> boat", False),),)


def test_every_image_of_an_example_is_shown(tmp_path: Path) -> None:
    answer = Answer(text="7", value="7", scores={})
    two = dataclasses.replace(example(("7",), answer), images=("a.png", str(tmp_path / "b.png")))
    assert [p.caption for p in card(two).pictures] == ["image 1", "image 2"]
