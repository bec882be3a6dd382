"""Every task parses the suffixes it writes to the reference."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palitune.codec.tokens import NUM_LOC_BINS
from palitune.errors import DataError
from palitune.records import Example, Instance, Row
from palitune.tasks import TASKS, Task
from palitune.tasks.detection import CrowdPolicy, ObjectOrder, PromptClasses

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
FILLED = TEXT.filter(lambda text: text.strip() != "")
SIZES = st.tuples(st.integers(1, 3000), st.integers(1, 3000))
OF_MASKS = {"segmentation", "referring_segmentation"}
"""Tasks with masks are tested in `test_mask_round_trip.py`."""
ABOUT_ONE_OBJECT = ("grounded_caption", "referring_detection")
CLASSES = ("boat", "traffic light", "bird's nest", "no. 7", "4")


@st.composite
def instances(draw: st.DrawFn, width: int, height: int) -> tuple[Instance, ...]:
    found = []
    for _ in range(draw(st.integers(0, 5))):
        x0, x1 = sorted((draw(st.floats(0, width)), draw(st.floats(0, width))))
        y0, y1 = sorted((draw(st.floats(0, height)), draw(st.floats(0, height))))
        label = draw(st.sampled_from([*CLASSES, "never asked for"]))
        found.append(Instance(label, (x0, y0, x1, y1), crowd=draw(st.booleans())))
    return tuple(found)


@st.composite
def one_instance(draw: st.DrawFn, width: int, height: int) -> Instance:
    return draw(instances(width, height).filter(bool))[0]


@st.composite
def rows(draw: st.DrawFn) -> Row:
    """Rows with all columns that the tasks require."""
    size = draw(SIZES)
    answers = tuple(draw(st.lists(FILLED, min_size=1, max_size=10)))
    return Row(
        id=draw(TEXT),
        images=("/harbour.png",),
        size=size,
        location="rows.jsonl:1",
        prefix=draw(TEXT),
        question=draw(FILLED),
        answers=answers,
        choices=(*draw(st.lists(FILLED, max_size=4)), *answers),
        captions=tuple(draw(st.lists(FILLED, min_size=1, max_size=5))),
        text=draw(FILLED),
        expression=draw(st.none() | FILLED),
        instances=draw(instances(*size)),
        classes=CLASSES,
    )


@st.composite
def detections(draw: st.DrawFn) -> Task:
    return TASKS["detection"](
        **{
            "prompt_classes": draw(st.sampled_from(PromptClasses)),
            "order": draw(st.sampled_from(ObjectOrder)),
            "crowd": draw(st.sampled_from(CrowdPolicy)),
            "negative_ratio": draw(st.floats(0, 1)),
            "min_box_side": draw(st.floats(0, 100)),
        }
    )


def settings(name: str) -> st.SearchStrategy[Task]:
    if name == "json":
        return st.just(TASKS[name](fields={"total": "number", "name": "text"}))  # type: ignore[call-arg]
    return detections() if name == "detection" else st.builds(TASKS[name])


def assert_reads_back(task: Task, example: Example) -> None:
    for suffix, expected in zip(example.suffixes, references(example), strict=True):
        value = task.parse(suffix, example.size)
        if isinstance(expected, str):
            assert value == expected
        else:
            assert isinstance(value, tuple)
            assert [instance.label for instance in value] == [i.label for i in expected]
            for read, written in zip(value, expected, strict=True):
                for side, length in enumerate((*example.size, *example.size)):
                    # half a bin of rounding, and one where a box without area was widened
                    assert (
                        abs(read.box[side] - written.box[side])
                        <= 1.5 * length / (NUM_LOC_BINS - 1) + 1e-6
                    )


def references(example: Example) -> list[Any]:
    """Return the reference of each suffix: its text, or all objects except crowds."""
    if all(isinstance(entry, str) for entry in example.reference) and example.reference:
        return list(example.reference)
    return [[i for i in example.reference if isinstance(i, Instance) and not i.crowd]]


@pytest.mark.parametrize("name", sorted(set(TASKS) - OF_MASKS))
@given(data=st.data(), row=rows())
def test_a_task_reads_its_own_suffixes_as_the_reference(
    name: str, data: st.DataObject, row: Row
) -> None:
    task = data.draw(settings(name))
    if name in ABOUT_ONE_OBJECT:
        row = Row(**{**vars(row), "instances": (data.draw(one_instance(*row.size)),)})
    if name == "text":
        row = Row(**{**vars(row), "suffix": data.draw(FILLED)})
    if name == "json":
        values = {"name": data.draw(FILLED), "total": data.draw(st.integers(-999, 999))}
        row = Row(**{**vars(row), "json": json.dumps(values)})
    example = task.example(row)
    assert (example.id, example.location, example.size) == (row.id, row.location, row.size)
    assert example.prefix == row.prefix
    assert_reads_back(task, example)
    assert example == task.example(row), "the same row gives the same example"


@pytest.mark.parametrize("name", TASKS)
@given(data=st.data(), row=rows(), suffix=TEXT | st.just("<loc0001><loc0002><loc0003><loc0004> 4"))
def test_a_suffix_of_the_row_is_kept_and_read_or_refused_with_its_place(
    name: str, data: st.DataObject, row: Row, suffix: str
) -> None:
    task = data.draw(settings(name))
    row = Row(**{**vars(row), "suffix": suffix})
    outcome = example_or_refusal(task, row)
    if isinstance(outcome, str):
        assert outcome.startswith("rows.jsonl:1: ")
    else:
        assert outcome.suffixes == (suffix,)
        value = task.parse(suffix, row.size)
        assert ((value,) if isinstance(value, str) else value) == outcome.reference


def example_or_refusal(task: Task, row: Row) -> Example | str:
    try:
        return task.example(row)
    except DataError as refusal:
        return str(refusal)


@pytest.mark.parametrize("name", TASKS)
@given(text=st.text(), size=SIZES)
def test_reading_a_models_text_never_raises(name: str, text: str, size: tuple[int, int]) -> None:
    TASKS[name]().parse(text, size)


@given(row=rows(), most=st.integers(1, 4))
def test_what_a_suffix_leaves_out_is_counted_and_the_rest_reads_back(row: Row, most: int) -> None:
    task = TASKS["detection"](
        **{"max_objects": most, "min_box_side": 20, "crowd": CrowdPolicy.drop}
    )
    example = task.example(row)
    asked = [i for i in row.instances or () if i.label in CLASSES]
    read = task.parse(example.suffixes[0], row.size)
    assert isinstance(read, tuple)
    assert len(read) + sum(task.count_dropped(row).values()) == len(asked)
    found = [i for i in example.reference if isinstance(i, Instance) and not i.crowd]
    assert [i.label for i in read] == [i.label for i in found[:most]]
