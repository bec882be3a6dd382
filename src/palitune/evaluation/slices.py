"""Built-in slice attributes, derived from the references: answer length and number of objects."""

from collections.abc import Sequence

from palitune.records import Example, Instance

ANSWER_LENGTH = "answer length"
NUM_OBJECTS = "number of objects"

_WORD_BINS = {1: "1 word", 2: "2 words", 5: "3 to 5 words", 10: "6 to 10 words"}
_COUNT_BINS = {0: "none", 1: "1", 3: "2 or 3", 10: "4 to 10"}
"""Names of the bins by their upper bounds, inclusive."""


def slice_attributes(examples: Sequence[Example]) -> list[dict[str, str]]:
    """Return the length of the first reference of each example, or its number of objects."""
    return [_example_attributes(example) for example in examples]


def _example_attributes(example: Example) -> dict[str, str]:
    texts = [text for text in example.reference if isinstance(text, str)]
    if texts:
        return {ANSWER_LENGTH: _bin_name(len(texts[0].split()), _WORD_BINS, "more than 10 words")}
    objects = [i for i in example.reference if isinstance(i, Instance) and not i.crowd]
    return {NUM_OBJECTS: _bin_name(len(objects), _COUNT_BINS, "more than 10")}


def _bin_name(value: int, bins: dict[int, str], overflow_name: str) -> str:
    return next((name for bound, name in bins.items() if value <= bound), overflow_name)
