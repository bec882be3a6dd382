"""What numbers are told by besides the data's own columns, out of the references alone."""

from collections.abc import Sequence

from palitune.records import Example, Instance

ANSWER_LENGTH = "answer length"
NUM_OBJECTS = "number of objects"

_WORD_BINS = {1: "1 word", 2: "2 words", 5: "3 to 5 words", 10: "6 to 10 words"}
_COUNT_BINS = {0: "none", 1: "1", 3: "2 or 3", 10: "4 to 10"}
"""A name for everything up to a number."""


def slice_attributes(examples: Sequence[Example]) -> list[dict[str, str]]:
    """Tell of every example how long its first reference is, or how many objects it holds."""
    return [_example_attributes(example) for example in examples]


def _example_attributes(example: Example) -> dict[str, str]:
    texts = [text for text in example.reference if isinstance(text, str)]
    if texts:
        return {ANSWER_LENGTH: _bin_name(len(texts[0].split()), _WORD_BINS, "more than 10 words")}
    found = [i for i in example.reference if isinstance(i, Instance) and not i.crowd]
    return {NUM_OBJECTS: _bin_name(len(found), _COUNT_BINS, "more than 10")}


def _bin_name(value: int, bins: dict[int, str], overflow_name: str) -> str:
    return next((name for most, name in bins.items() if value <= most), overflow_name)
