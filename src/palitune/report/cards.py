"""One judged example as the page shows it: pictures, texts with their differences, score."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from palitune.examples import Instance
from palitune.metrics.confusion import Pair
from palitune.report import selection
from palitune.report.pictures import Picture, answers
from palitune.report.run_folder import Answer, Judged, objects
from palitune.report.summary import written

Segments = tuple[tuple[str, bool], ...]
"""Text in pieces; True where a piece differs from what it is compared with."""

# Longer texts are shown without marks: finding them takes time that grows with the square.
_LONGEST_MARKED = 1500
# Below this similarity marks would cover nearly everything and say nothing.
_LEAST_ALIKE = 0.4
# Longer texts are cut: the page stays small, `predictions.jsonl` has them whole.
_LONGEST, _LONGEST_SMALL = 3000, 300


@dataclass(frozen=True)
class Line:
    """One text of a card: a reference, or what a model wrote."""

    caption: str
    texts: tuple[Segments, ...]
    malformed: bool = False


@dataclass(frozen=True)
class Card:
    id: str
    part: str
    prefix: str
    grade: str
    """malformed | full | partial | zero | unscored."""
    score: str
    good: float
    """The score turned so that more is better and 1 is without fault; NaN without one."""
    change: str
    """Change of the main score from before to after; empty where unknown."""
    improved: bool | None
    gain: float
    """How much better the main score became; NaN where unknown."""
    wide: bool
    """Whether pictures with boxes stand side by side."""
    small: bool
    """Whether it stands in no gallery and shows a thumbnail only."""
    pictures: tuple[Picture, ...]
    lines: tuple[Line, ...]
    details: tuple[tuple[str, str], ...]
    """(caption, text) of what is folded away: exact texts, objects, all scores."""
    places: str
    """JSON of its place in each gallery."""
    pairs: str
    """JSON of the [reference, prediction] classes that it adds to the confusions."""


def card(
    chosen: selection.Chosen, pictures: tuple[Picture, ...] = (), pairs: Sequence[Pair] = ()
) -> Card:
    """Write everything that the page says of one example."""
    example = chosen.example
    found = selection.main_score(example.after)
    change, improved = _change(example)
    small = not chosen.places
    longest = _LONGEST_SMALL if small else _LONGEST
    return Card(
        id=example.id,
        part=example.part,
        prefix=_cut(example.prefix, longest),
        grade=grade(example.after),
        score="no score" if found is None else f"{found[0]} {written(*found)}",
        good=selection.goodness(example.after),
        change=change,
        improved=improved,
        gain=selection.change(example),
        wide=example.draws_boxes and not small,
        small=small,
        pictures=pictures,
        lines=_malformed_lines(example, longest)
        if example.draws_boxes
        else _lines(example, longest),
        details=tuple((caption, _cut(text, longest)) for caption, text in _details(example)),
        places=json.dumps(chosen.places),
        pairs=json.dumps(sorted(set(pairs)), ensure_ascii=False),
    )


def grade(answer: Answer) -> str:
    """Sort an answer into malformed, full, partial, zero or unscored."""
    if answer.value is None:
        return "malformed"
    good = selection.goodness(answer)
    if math.isnan(good):
        return "unscored"
    return "full" if good >= 1 else "zero" if good <= 0 else "partial"


def _change(example: Judged) -> tuple[str, bool | None]:
    """The change of the main score, as it is written, and whether it is one for the better."""
    found, better = selection.main_score(example.after), selection.change(example)
    if found is None or example.before is None or math.isnan(better) or better == 0:
        return "", None
    name, score = found
    return written(name, score - example.before.scores[name], "+"), better > 0


def differences(text: str, other: str) -> tuple[Segments, Segments]:
    """Cut two texts into pieces, marking in each what the other lacks; none if too unlike."""
    matcher = SequenceMatcher(None, text, other, autojunk=False)
    if max(len(text), len(other)) > _LONGEST_MARKED or matcher.ratio() < _LEAST_ALIKE:
        return ((text, False),), ((other, False),)
    first: list[tuple[str, bool]] = []
    second: list[tuple[str, bool]] = []
    for kind, a0, a1, b0, b1 in matcher.get_opcodes():
        first += [(text[a0:a1], kind != "equal")] * (a1 > a0)
        second += [(other[b0:b1], kind != "equal")] * (b1 > b0)
    return tuple(first), tuple(second)


def visible(text: str) -> str:
    """Show where lines end and tabs stand, which a page would not."""
    return text.replace("\n", "⏎\n").replace("\t", "⇥\t").removesuffix("\n")


def _cut(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    return f"{text[:longest]}… [{len(text) - longest} characters more in predictions.jsonl]"


def _malformed_lines(example: Judged, longest: int) -> tuple[Line, ...]:
    return tuple(
        Line(caption, (((_cut(answer.text, longest), False),),), malformed=True)
        for caption, answer in answers(example)
        if answer.value is None
    )


def _lines(example: Judged, longest: int) -> tuple[Line, ...]:
    references = tuple(_cut(text, longest) for text in example.reference if isinstance(text, str))
    after = example.after.value
    plain: tuple[Segments, ...] = tuple(((reference, False),) for reference in references)
    if len(references) == 1 and isinstance(after, str) and after:
        plain = (differences(references[0], _cut(after, longest))[0],)
    lines = [Line("reference" if len(references) == 1 else "references", plain)]
    for caption, answer in answers(example):
        marked = _marked(answer, references, longest)
        lines.append(Line(caption, (marked,), answer.value is None))
    return tuple(lines)


def _marked(answer: Answer, references: tuple[str, ...], longest: int) -> Segments:
    """The answer with what the nearest reference lacks; the raw text where it is malformed."""
    if not isinstance(answer.value, str):
        return ((_cut(answer.text, longest), False),)
    value = _cut(answer.value, longest)
    if value in references or not value or not references:
        return ((value, False),) if value else ()
    nearest = max(references, key=lambda r: SequenceMatcher(None, r, value).quick_ratio())
    return differences(value, nearest)[0]


def _details(example: Judged) -> list[tuple[str, str]]:
    """Exact texts in and out of the model, objects and scores; empty ones are left out."""
    asked = "to write" if len(example.suffixes) == 1 else "to write, one of"
    details = [
        ("into the model, after image and <bos>", visible(f"{example.prefix}\n")),
        (asked, "\n".join(visible(suffix) for suffix in example.suffixes)),
        ("reference, objects", _listed(objects(example.reference))),
    ]
    for caption, answer in answers(example):
        scores = [f"{name} {written(name, score)}" for name, score in answer.scores.items()]
        details += [
            (f"{caption}, raw text", visible(answer.text)),
            (f"{caption}, objects", _listed(objects(answer.value))),
            (f"{caption}, scores", ", ".join(scores)),
        ]
    return [(caption, text) for caption, text in details if text]


def _listed(instances: tuple[Instance, ...]) -> str:
    return "\n".join(
        f"{i.label}  [{', '.join(f'{side:.0f}' for side in i.box)}]"
        + ("" if i.score is None else f"  {i.score:.2f}")
        for i in instances
    )
