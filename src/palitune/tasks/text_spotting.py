"""Text spotting: `ocr` -> `<locY0><locX0><locY1><locX1> word ; ...`, every word with its box.

Words are the labels of the row's instances, in reading order. Unlike a class, a word may contain
`;`: an entry ends at the next box.
"""

import re
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from annotated_types import Ge

from palitune.codec import boxes
from palitune.codec.grammar import ObjectGrammar
from palitune.errors import DataError
from palitune.records import Instance, Reference, Row, Size
from palitune.tasks.base import Task, require

_LOC_PATTERN = r"<loc[0-9]{4}>"
_ENTRY_PATTERN = re.compile(
    rf"(?P<locs>(?:{_LOC_PATTERN})+)(?P<word>(?:(?!{_LOC_PATTERN}).)*)", re.DOTALL
)
_CODEC_TOKEN = re.compile(r"<(?:loc[0-9]{4}|seg[0-9]{3})>")


@dataclass(kw_only=True)
class TextSpotting(Task):
    name: ClassVar[str] = "text_spotting"
    validity_metrics: ClassVar[tuple[str, ...]] = ("malformed_fragments", "duplicates")

    prompt: str = "ocr"
    """The prompt. Released checkpoints answer `ocr` with text without boxes."""
    sort: bool = True
    """Sort the words by line from the top, each line from the left; false: order of the data."""
    illegible: list[str] = field(default_factory=lambda: ["###"])
    """Transcriptions of illegible words, which are not in the suffix and ignored in scoring."""
    metrics: list[str] = field(default_factory=lambda: ["text_spotting"])
    max_new_tokens: Annotated[int, Ge(1)] = 1024

    def prefix(self, row: Row) -> str:
        return self.prompt

    def targets(self, row: Row) -> tuple[tuple[str, ...], Reference]:
        words = [self._to_word(i, row) for i in require(row, "instances", row.instances)]
        words = sort_in_reading_order(words) if self.sort else words
        entries = (
            f"{boxes.encode_box(word.box, row.size)} {word.label}"
            for word in words
            if not word.crowd
        )
        return (boxes.OBJECT_SEPARATOR.join(entries),), tuple(words)

    def count_dropped(self, row: Row) -> dict[str, int]:
        if row.suffix is not None:
            return {}
        count = sum(i.label.strip() in self.illegible for i in row.instances or ())
        return {"illegible words (task.illegible)": count} if count else {}

    def parse(
        self, text: str, size: Size, confidence: boxes.ConfidenceFn | None = None
    ) -> tuple[Instance, ...] | None:
        words, malformed = decode_words(text, size, confidence)
        return None if malformed and not words else words

    def grammar(self, prefix: str) -> ObjectGrammar | None:
        return ObjectGrammar(labels=None)

    def count_malformed(self, text: str) -> int:
        return decode_words(text, boxes.UNIT_SIZE)[1]

    def reference_from_suffix(self, row: Row, suffix: str) -> Reference:
        words, malformed = decode_words(suffix, row.size)
        if malformed:
            raise DataError(
                f"{row.location}: suffix {suffix!r} is not "
                "'<locY0><locX0><locY1><locX1> word ; ...'"
            )
        return words

    def _to_word(self, instance: Instance, row: Row) -> Instance:
        text = " ".join(instance.label.split())
        if not text or _CODEC_TOKEN.search(text):
            raise DataError(
                f"{row.location}: word {instance.label!r} is empty or contains a <loc> or <seg> "
                "token. Correct or remove it"
            )
        is_ignored = instance.crowd or text in self.illegible
        return Instance(text, instance.box, instance.mask, crowd=is_ignored)


def sort_in_reading_order(words: list[Instance]) -> list[Instance]:
    """Sort words into lines from the top, and each line from the left.

    A word belongs to a line if its middle lies between top and bottom of the line's first word.
    """
    lines: list[list[Instance]] = []
    for word in sorted(words, key=lambda word: (word.box[1] + word.box[3], word.box[0])):
        middle = (word.box[1] + word.box[3]) / 2
        if lines and lines[-1][0].box[1] <= middle <= lines[-1][0].box[3]:
            lines[-1].append(word)
        else:
            lines.append([word])
    return [word for line in lines for word in sorted(line, key=lambda word: word.box[0])]


def decode_words(
    text: str, size: Size, confidence: boxes.ConfidenceFn | None = None
) -> tuple[tuple[Instance, ...], int]:
    """Return the words of a generated text, and the number of malformed fragments."""
    words = []
    matches = list(_ENTRY_PATTERN.finditer(text))
    malformed = int(bool(text[: matches[0].start() if matches else None].strip()))
    for match in matches:
        word = match["word"].strip()
        if match is not matches[-1]:
            word = word.removesuffix(";").rstrip()
        box = boxes.decode(match["locs"], size, labelled=False).instances
        if not box or not word:
            malformed += 1
            continue
        score = None
        if confidence is not None:
            score = confidence(match.start(), match.start() + len(match[0].rstrip(" ;")))
        words.append(Instance(word, box[0].box, score=score))
    return tuple(words), malformed
