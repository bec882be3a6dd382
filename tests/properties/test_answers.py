"""The law of a model's text: whatever it is, a task reads it without raising."""

import random
from collections.abc import Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from palitune.records import Instance
from palitune.tasks import TASKS, Task

STRINGS = 100_000
"""Shared by all tasks."""
SIZE = (40, 30)
WORDS = (
    "boat",
    "traffic light",
    "ein Boot",
    "船",
    "�",
    "e\u0301",
    "\x00",
    "<loc",
    "<seg0000>",
    "<eos>",
)
BETWEEN = (" ; ", ";", " ;", ";;", " ", "", "\n", "\t", "\u2028", "\u00a0")
LOCS = ("<loc0000>", "<loc0005>", "<loc0512>", "<loc1023>", "<loc1024>", "<loc9999>", "<loc12>")
SEGS = ("<seg000>", "<seg007>", "<seg127>", "<seg128>", "<seg999>", "<seg1>")


def task_named(name: str) -> Task:
    return TASKS[name](**{"label": True} if name.startswith("referring") else {})


def texts(count: int, seed: str) -> Iterator[str]:
    """Yield answers put together of what objects are made of, right and wrong, some cut short."""
    chance = random.Random(seed)
    made = (
        lambda: "".join(chance.choices(LOCS, k=chance.choice((1, 3, 4, 4, 5)))),
        lambda: "<loc0100><loc0200><loc0300><loc0400>",
        lambda: "".join(chance.choices(SEGS, k=chance.choice((1, 15, 17)))),
        lambda: chance.choice(SEGS[:4]) * 16,
        lambda: chance.choice(WORDS),
        lambda: chance.choice(BETWEEN),
        lambda: "".join(map(chr, chance.choices(range(32, 0x2FF), k=3))),
    )
    for _ in range(count):
        text = "".join(chance.choice(made)() for _ in range(chance.randint(0, 9)))
        yield text if chance.random() < 0.8 else text[: chance.randint(0, len(text))]


def assert_read(task: Task, text: str) -> bool:
    """Read a text; return whether there was an object in it."""
    value = task.parse(text, SIZE, lambda start, end: 0.5)
    unreadable = task.count_malformed(text)
    assert unreadable >= 0
    if value is None:
        assert unreadable or not text.replace(";", "").strip(), "something in it is unreadable"
    objects = [i for i in value or () if isinstance(i, Instance)]
    for found in objects:
        x0, y0, x1, y1 = found.box
        assert 0 <= x0 < x1 <= SIZE[0]
        assert 0 <= y0 < y1 <= SIZE[1]
        assert found.label.strip() == found.label != ""
        assert found.score == 0.5
    return bool(objects)


@pytest.mark.parametrize("name", TASKS)
def test_a_hundred_thousand_texts_are_read(name: str) -> None:
    task = task_named(name)
    found = [assert_read(task, text) for text in texts(STRINGS // len(TASKS), name)]
    assert any(found) == bool(task.validity_metrics)
    assert not all(found)


parts = st.sampled_from([*LOCS, *SEGS, *WORDS, *BETWEEN]) | st.text(max_size=4)
entries = st.tuples(
    st.lists(st.sampled_from(LOCS), min_size=3, max_size=5),
    st.sampled_from([(), SEGS[:1] * 16, SEGS[1:3] * 8, SEGS[:1] * 15]),
    st.lists(parts, max_size=3),
).map(lambda entry: "".join("".join(part) for part in entry))


@pytest.mark.parametrize("name", TASKS)
@settings(max_examples=50)
@given(st.lists(entries | parts, max_size=6), st.sampled_from(BETWEEN))
@example([], "")
def test_entries_of_any_structure_are_read(name: str, written: list[str], between: str) -> None:
    assert_read(task_named(name), between.join(written))
