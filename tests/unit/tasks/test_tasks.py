from dataclasses import replace

import pytest

from palitune.errors import DataError
from palitune.metrics import METRICS
from palitune.records import Instance, Row
from palitune.tasks import TASKS
from palitune.tasks.caption import Caption

FULL = Row(
    id="1",
    images=("a.png",),
    size=(64, 48),
    location="boats:1",
    prefix="say",
    question="which is it?",
    answers=("x",),
    choices=("x", "y"),
    captions=("a boat",),
    text="x",
    json='{"total": 5}',
    expression="the boat",
    instances=(Instance("boat", (1, 2, 30, 40)),),
)


@pytest.mark.parametrize("name", TASKS)
def test_a_task_stands_in_the_table_under_its_own_name(name: str) -> None:
    task = TASKS[name]()
    assert task.name == name
    assert task.metrics
    assert set(task.metrics) <= set(METRICS)


@pytest.mark.parametrize("name", TASKS)
def test_tasks_do_not_share_their_default_metrics(name: str) -> None:
    TASKS[name]().metrics.append("exact_match")
    assert TASKS[name]().metrics != [*TASKS[name]().metrics, "exact_match"]
    assert TASKS[name]().metrics is not TASKS[name]().metrics


@pytest.mark.parametrize("name", TASKS)
def test_tasks_that_write_no_boxes_take_several_images_and_the_others_say_why_not(
    name: str,
) -> None:
    two = replace(FULL, images=("a.png", "b.png"))
    if name in ("caption", "vqa", "science_qa", "ocr", "json", "text"):
        assert TASKS[name]().prompt_only_example(two).images == two.images
        return
    with pytest.raises(DataError, match=f"boats:1: 2 images, but task {name} writes boxes"):
        TASKS[name]().prompt_only_example(two)


def test_a_marked_object_is_in_the_one_image_there_is() -> None:
    assert Caption(mark=True).example(FULL).marked_box == (1, 2, 30, 40)
    with pytest.raises(DataError, match=r"2 images, but task caption with task\.mark"):
        Caption(mark=True).example(replace(FULL, images=("a.png", "b.png")))
