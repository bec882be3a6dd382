"""Slice attributes are derived from the first reference or the objects."""

import pytest

from palitune.evaluation.slices import ANSWER_LENGTH, NUM_OBJECTS, slice_attributes
from palitune.records import Example, Instance, Reference


def example(reference: Reference) -> Example:
    return Example(
        id="1", images=("a.png",), size=(9, 9), prefix="", suffixes=("",), reference=reference,
        location="a:1",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (1, "1 word"),
        (2, "2 words"),
        (3, "3 to 5 words"),
        (9, "6 to 10 words"),
        (12, "more than 10 words"),
    ],
)
def test_answers_are_binned_by_number_of_words(words: int, name: str) -> None:
    assert slice_attributes([example((" ".join(["a"] * words), "b"))]) == [{ANSWER_LENGTH: name}]


@pytest.mark.parametrize(
    ("count", "name"), [(0, "none"), (1, "1"), (3, "2 or 3"), (4, "4 to 10"), (11, "more than 10")]
)
def test_images_are_binned_by_number_of_objects_without_crowds(count: int, name: str) -> None:
    boat = Instance("boat", (0, 0, 5, 5))
    crowd = Instance("boat", (0, 0, 9, 9), crowd=True)
    assert slice_attributes([example((*[boat] * count, crowd))]) == [{NUM_OBJECTS: name}]
