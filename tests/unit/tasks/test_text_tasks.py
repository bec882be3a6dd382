"""Caption, VQA, OCR and text: the prompts they write, the targets, and their refusals."""

import dataclasses
from typing import Any

import pytest

from palitune.errors import DataError
from palitune.records import Instance, Row
from palitune.tasks import TASKS
from palitune.tasks.base import TextTask
from palitune.tasks.caption import Caption
from palitune.tasks.ocr import Ocr
from palitune.tasks.text import Text
from palitune.tasks.vqa import Vqa

ROW = Row(
    id="17",
    images=("/cow.jpg",),
    size=(640, 480),
    location="cows.jsonl:17",
    question=" where is the cow? ",
    answers=("in the field", " on the beach "),
    choices=("field", "beach"),
    captions=("A cow.", "A cow on a beach."),
    text=" OPEN\n24 HOURS\n",
)


def with_columns(**columns: Any) -> Row:
    return dataclasses.replace(ROW, **columns)


def test_vqa_asks_and_keeps_every_answer() -> None:
    example = Vqa().example(ROW)
    assert example.prefix == "answer en where is the cow?"
    assert example.suffixes == example.reference == ("in the field", "on the beach")
    assert (example.id, example.images, example.size) == ("17", ("/cow.jpg",), (640, 480))
    assert example.location == "cows.jsonl:17"


@pytest.mark.parametrize(
    ("settings", "prefix"),
    [
        ({"language": "de"}, "answer de where is the cow?"),
        ({"template": "{question}"}, "where is the cow?"),
        (
            {"template": "answer en {question} choose from: {choices}"},
            "answer en where is the cow? choose from: field \t beach",
        ),
        ({"template": "pick {choices}", "choice_separator": ", "}, "pick field, beach"),
        ({"template": "{{question}} {question}"}, "{question} where is the cow?"),
    ],
)
def test_vqa_fills_its_template(settings: dict[str, str], prefix: str) -> None:
    assert Vqa(**settings).prefix(ROW) == prefix


def test_a_question_with_braces_is_asked_as_it_is() -> None:
    assert Vqa().prefix(with_columns(question="what is {x}?")) == "answer en what is {x}?"


def test_a_template_asks_for_the_columns_it_names_and_no_others() -> None:
    assert Vqa(template="what is it?").prefix(with_columns(question=None)) == "what is it?"
    with pytest.raises(DataError, match=r"cows.jsonl:17: column 'choices' is missing"):
        Vqa(template="{choices}").prefix(with_columns(choices=None))


def test_caption_names_the_language_and_keeps_every_caption() -> None:
    example = Caption(language="fr").example(ROW)
    assert example.prefix == "caption fr"
    assert example.suffixes == example.reference == ("A cow.", "A cow on a beach.")
    assert Caption(template="describe {language}").prefix(ROW) == "describe en"


def test_a_caption_is_asked_for_in_the_language_of_its_row() -> None:
    assert Caption(language="fr").prefix(with_columns(language="quz")) == "caption quz"


def test_answers_and_captions_are_learned_and_judged_in_lower_case_on_request() -> None:
    row = with_columns(answers=("Red, Blue", "STOP"), captions=("A COW.",))
    answered, captioned = Vqa(lowercase=True).example(row), Caption(lowercase=True).example(row)
    assert answered.suffixes == answered.reference == ("red, blue", "stop")
    assert captioned.suffixes == captioned.reference == ("a cow.",)
    assert Vqa().example(row).suffixes == ("Red, Blue", "STOP")


def test_a_caption_may_be_about_an_object_that_is_outlined_in_the_image() -> None:
    row = with_columns(instances=(Instance("button", (1, 2, 30, 40)),))
    assert Caption(mark=True).example(row).marked_box == (1, 2, 30, 40)
    assert Caption().example(row).marked_box is None
    with pytest.raises(DataError, match="column 'instances' is missing"):
        Caption(mark=True).example(ROW)


def test_choices_come_after_two_spaces_and_between_tabs_where_big_vision_has_them() -> None:
    task = Vqa(template="answer {language}  {question} choose from: {choices}")
    assert task.prefix(ROW) == "answer en  where is the cow? choose from: field \t beach"


def test_ocr_targets_the_text_with_its_line_breaks() -> None:
    example = Ocr().example(ROW)
    assert example.prefix == "ocr"
    assert example.suffixes == example.reference == ("OPEN\n24 HOURS",)


def test_text_takes_prefix_and_suffix_from_the_row() -> None:
    example = Text().example(with_columns(prefix="count the cows", suffix="two"))
    assert (example.prefix, example.suffixes, example.reference) == (
        "count the cows",
        ("two",),
        ("two",),
    )


@pytest.mark.parametrize(
    "name", [name for name in TASKS if issubclass(TASKS[name], TextTask) and name != "json"]
)
def test_a_row_that_brings_prefix_and_suffix_is_not_rewritten(name: str) -> None:
    row = Row(id="1", images=("/a.png",), size=(9, 9), location="a:1", prefix="say", suffix=" x ")
    example = TASKS[name]().example(row)
    assert (example.prefix, example.suffixes, example.reference) == ("say", (" x ",), ("x",))


@pytest.mark.parametrize(
    ("task", "columns", "message"),
    [
        (Vqa(), {"question": None}, "column 'question' is missing, but this task requires it"),
        (Vqa(), {"answers": None}, "column 'answers' is missing"),
        (Vqa(), {"answers": ()}, "column 'answers' contains an empty text"),
        (Vqa(), {"answers": ("cow", " ")}, "column 'answers' contains an empty text"),
        (Caption(), {"captions": None}, "column 'captions' is missing"),
        (Ocr(), {"text": None}, "column 'text' is missing"),
        (Ocr(), {"text": "\n"}, "column 'text' contains an empty text"),
        (Ocr(), {"suffix": " "}, "column 'suffix' contains an empty text"),
        (Text(), {"prefix": "say"}, "column 'suffix' is missing"),
        (Text(), {"suffix": "two"}, "column 'prefix' is missing"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_with_its_place(
    task: Any, columns: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=f"^cows.jsonl:17: {message}"):
        task.example(with_columns(**columns))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Vqa(template="{colour}"),
            r"unknown placeholder \{colour\}; valid are choices, la",
        ),
        (lambda: Vqa(template="{}"), r"unknown placeholder \{\}"),
        (lambda: Vqa(template="{question:d}"), r"unknown placeholder \{question:d\}"),
        (lambda: Vqa(template="{question!r}"), r"unknown placeholder \{question!r\}"),
        (lambda: Vqa(template="{question.id}"), r"unknown placeholder \{question.id\}"),
        (lambda: Vqa(template="{question"), r"task.template: '\{question' is not a valid template"),
        (
            lambda: Caption(template="{question}"),
            r"unknown placeholder \{question\}; valid are lang",
        ),
        (lambda: Ocr(metrics=["cer"]), "task.metrics: 'cer' is not one of anls_paper, anls_rrc"),
        (lambda: Ocr(max_new_tokens=0), "task.max_new_tokens must be at least 1, got 0"),
    ],
)
def test_a_setting_that_cannot_work_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("task", [Vqa(), Caption(), Ocr(), Text()])
def test_text_is_read_without_outer_white_space(task: Any) -> None:
    assert task.parse(" two  cows\n", (9, 9)) == "two  cows"
    assert task.parse("", (9, 9)) == ""
