"""Answers to questions of several tasks in one batch."""

from dataclasses import replace
from pathlib import Path

import pytest

from palitune.data.collator import Collator
from palitune.data.images.io import EncodedImage
from palitune.data.sources.embedded import Handwriting
from palitune.errors import ModelError
from palitune.evaluation.answering import Question, answer
from palitune.models.config import Device, Tiny
from palitune.models.loading import load, load_processor
from palitune.records import Example, Prediction
from palitune.tasks.detection import Detection
from palitune.tasks.ocr import Ocr
from palitune.tasks.vqa import Vqa

MODEL = Tiny(device=Device.cpu)


def page(number: int) -> Path:
    return Handwriting().resolved_path() / "images" / f"test-{number:04d}.png"


def question(number: int, prompt: str, task: object, **options: object) -> Question:
    example = Example(
        id=f"{number} {prompt}",
        images=(str(page(number)),),
        size=(112, 112),
        prefix=prompt,
        suffixes=(),
        reference=(),
        location="test",
    )
    return Question(example=example, task=task, **options)  # type: ignore[arg-type]


QUESTIONS = [
    question(1, "ocr", Ocr(max_new_tokens=6)),
    question(2, "detect 1 ; 2", Detection(classes=["1", "2"], max_new_tokens=24), constrained=True),
    question(3, "answer en how many digits are there?", Vqa(max_new_tokens=4)),
    question(4, "detect 7", Detection(classes=["7"], max_new_tokens=40), max_new_tokens=12),
]


@pytest.fixture(scope="module")
def model() -> tuple[object, Collator]:
    return load(MODEL), Collator(load_processor(MODEL))


@pytest.mark.parametrize("num_beams", [1, 2])
def test_an_answer_does_not_depend_on_the_other_questions(
    model: tuple[object, Collator], num_beams: int
) -> None:
    together = answer(*model, QUESTIONS, num_beams=num_beams)
    alone = [answer(*model, [each], num_beams=num_beams)[0] for each in QUESTIONS]
    assert [p.text for p in together] == [p.text for p in alone]
    assert [p.value is None for p in together] == [p.value is None for p in alone]
    backwards = answer(*model, QUESTIONS[::-1], num_beams=num_beams)[::-1]
    assert [p.text for p in backwards] == [p.text for p in together]


def test_every_question_has_its_own_token_limit(model: tuple[object, Collator]) -> None:
    _, collator = model
    predictions = answer(*model, QUESTIONS)
    limits = [6, 24, 4, 12]
    for prediction, limit in zip(predictions, limits, strict=True):
        ids = collator.tokenizer(prediction.text, add_special_tokens=False)["input_ids"]
        assert len(ids) <= limit
    longer = answer(*model, [replace(QUESTIONS[3], max_new_tokens=None)])[0]
    assert longer.text.startswith(predictions[3].text)


def test_a_limit_below_one_object_is_an_error(model: tuple[object, Collator]) -> None:
    with pytest.raises(ModelError, match=r"max_new_tokens must be at least"):
        answer(*model, [replace(QUESTIONS[1], max_new_tokens=3)])


def test_an_image_in_memory_is_answered_as_its_file(model: tuple[object, Collator]) -> None:
    def in_memory(asked: Question) -> Question:
        [path] = asked.example.images
        image = EncodedImage(Path(path).read_bytes())
        return replace(asked, example=replace(asked.example, images=(image,)))

    expected = answer(*model, QUESTIONS)
    assert answer(*model, [in_memory(asked) for asked in QUESTIONS]) == expected


def test_no_question_has_no_answer(model: tuple[object, Collator]) -> None:
    answers: list[Prediction] = answer(*model, [])
    assert answers == []
