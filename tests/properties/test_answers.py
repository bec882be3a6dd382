"""Every task parses any text without raising an error."""

import random
from collections.abc import Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from palitune.records import Instance
from palitune.tasks import TASKS, Task

NUM_TEXTS = 100_000
"""Number of random texts, divided among all tasks."""
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
SEPARATORS = (" ; ", ";", " ;", ";;", " ", "", "\n", "\t", "\u2028", "\u00a0")
LOCS = ("<loc0000>", "<loc0005>", "<loc0512>", "<loc1023>", "<loc1024>", "<loc9999>", "<loc12>")
SEGS = ("<seg000>", "<seg007>", "<seg127>", "<seg128>", "<seg999>", "<seg1>")


def make_task(name: str) -> Task:
    return TASKS[name](**{"include_label": True} if name.startswith("referring") else {})


def texts(count: int, seed: str) -> Iterator[str]:
    """Yield texts made of valid and invalid fragments of objects, some of them truncated."""
    rng = random.Random(seed)
    fragments = (
        lambda: "".join(rng.choices(LOCS, k=rng.choice((1, 3, 4, 4, 5)))),
        lambda: "<loc0100><loc0200><loc0300><loc0400>",
        lambda: "".join(rng.choices(SEGS, k=rng.choice((1, 15, 17)))),
        lambda: rng.choice(SEGS[:4]) * 16,
        lambda: rng.choice(WORDS),
        lambda: rng.choice(SEPARATORS),
        lambda: "".join(map(chr, rng.choices(range(32, 0x2FF), k=3))),
    )
    for _ in range(count):
        text = "".join(rng.choice(fragments)() for _ in range(rng.randint(0, 9)))
        yield text if rng.random() < 0.8 else text[: rng.randint(0, len(text))]


def assert_parses(task: Task, text: str) -> bool:
    """Parse a text. Return whether it contains an object."""
    value = task.parse(text, SIZE, lambda start, end: 0.5)
    num_malformed = task.count_malformed(text)
    assert num_malformed >= 0
    if value is None:
        assert num_malformed or not text.replace(";", "").strip(), "a fragment is malformed"
    objects = [i for i in value or () if isinstance(i, Instance)]
    for instance in objects:
        x0, y0, x1, y1 = instance.box
        assert 0 <= x0 < x1 <= SIZE[0]
        assert 0 <= y0 < y1 <= SIZE[1]
        assert instance.label.strip() == instance.label != ""
        assert instance.score == 0.5
    return bool(objects)


@pytest.mark.parametrize("name", TASKS)
def test_a_hundred_thousand_random_texts_are_parsed(name: str) -> None:
    task = make_task(name)
    has_object = [assert_parses(task, text) for text in texts(NUM_TEXTS // len(TASKS), name)]
    assert any(has_object) == bool(task.validity_metrics)
    assert not all(has_object)


fragments = st.sampled_from([*LOCS, *SEGS, *WORDS, *SEPARATORS]) | st.text(max_size=4)
entries = st.tuples(
    st.lists(st.sampled_from(LOCS), min_size=3, max_size=5),
    st.sampled_from([(), SEGS[:1] * 16, SEGS[1:3] * 8, SEGS[:1] * 15]),
    st.lists(fragments, max_size=3),
).map(lambda entry: "".join("".join(fragment) for fragment in entry))


@pytest.mark.parametrize("name", TASKS)
@settings(max_examples=50)
@given(st.lists(entries | fragments, max_size=6), st.sampled_from(SEPARATORS))
@example([], "")
def test_entries_of_any_structure_are_parsed(
    name: str, entry_texts: list[str], separator: str
) -> None:
    assert_parses(make_task(name), separator.join(entry_texts))
