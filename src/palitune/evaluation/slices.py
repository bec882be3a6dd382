"""What numbers are told by besides the data's own columns, out of the references alone."""

from collections.abc import Sequence

from palitune.examples import Example, Instance

LENGTH = "answer length"
OBJECTS = "number of objects"

_WORDS = {1: "1 word", 2: "2 words", 5: "3 to 5 words", 10: "6 to 10 words"}
_COUNTS = {0: "none", 1: "1", 3: "2 or 3", 10: "4 to 10"}
"""A name for everything up to a number."""


def attributes_of(examples: Sequence[Example]) -> list[dict[str, str]]:
    """Tell of every example how long its first reference is, or how many objects it holds."""
    return [_attributes(example) for example in examples]


def _attributes(example: Example) -> dict[str, str]:
    texts = [text for text in example.reference if isinstance(text, str)]
    if texts:
        return {LENGTH: _named(len(texts[0].split()), _WORDS, "more than 10 words")}
    found = [i for i in example.reference if isinstance(i, Instance) and not i.crowd]
    return {OBJECTS: _named(len(found), _COUNTS, "more than 10")}


def _named(number: int, names: dict[int, str], beyond: str) -> str:
    return next((name for most, name in names.items() if number <= most), beyond)
