"""A prompt tells its task, and a task its prompt."""

import pytest

from palitune.errors import DataError
from palitune.tasks import Task
from palitune.tasks.caption import Caption
from palitune.tasks.detection import Detection, PromptClasses
from palitune.tasks.grounded_caption import GroundedCaption
from palitune.tasks.infer_task import infer_task, task_from_prompt
from palitune.tasks.json_task import Json
from palitune.tasks.ocr import Ocr
from palitune.tasks.segmentation import Segmentation
from palitune.tasks.text import Text
from palitune.tasks.vqa import Vqa


@pytest.mark.parametrize(
    ("prompt", "task"),
    {
        "detect boat": Detection,
        "Detect boat ; buoy": Detection,
        "segment the left boat": Segmentation,
        "ocr": Ocr,
        "caption en": Caption,
        "caption <loc0001><loc0002><loc0003><loc0004>": GroundedCaption,
        "answer en where is the cow?": Vqa,
        "extract json": Json,
        "extract the total": Text,
        "describe en": Text,
        "detected?": Text,
    }.items(),
)
def test_the_first_word_of_a_prompt_tells_the_task(prompt: str, task: type[Task]) -> None:
    assert type(task_from_prompt(prompt)[0]) is task


def test_the_classes_of_a_prompt_are_those_of_the_task() -> None:
    task, because = task_from_prompt("detect boat ; red buoy;lighthouse")
    assert isinstance(task, Detection)
    assert task.classes == ["boat", "red buoy", "lighthouse"]
    assert because == "inferred from 'detect'; task=... overrides it"


def test_a_task_that_is_told_overrides_the_verb() -> None:
    asked = infer_task("detect boat", Text())
    assert (type(asked.task), asked.prompt, asked.reason) == (Text, "detect boat", "task=text")


def test_a_known_task_of_the_inferred_kind_keeps_its_settings() -> None:
    known = [Text(), Ocr(max_new_tokens=8), Vqa(max_new_tokens=3)]
    assert infer_task("ocr", None, known).task.max_new_tokens == 8
    assert infer_task("caption en", None, known).task == Caption()


def test_a_task_writes_its_prompt_without_knowing_what_is_in_the_image() -> None:
    assert (
        infer_task(None, Detection(classes=["b", "a"], prompt_classes=PromptClasses.present)).prompt
        == "detect b ; a"
    )
    assert infer_task(None, Caption(language="fr")).prompt == "caption fr"
    assert infer_task(None, Ocr()).describe() == "prompt: 'ocr', answers parsed as ocr (task=ocr)"


@pytest.mark.parametrize("task", [Vqa(), Text(), Detection(), GroundedCaption()])
def test_a_task_that_needs_more_than_an_image_says_so(task: Task) -> None:
    with pytest.raises(DataError, match=rf"task={task.name}: .*, or write prompt='...'"):
        infer_task(None, task)


def test_nothing_to_ask_is_refused() -> None:
    with pytest.raises(DataError, match="prompt is missing"):
        infer_task(None, None)
