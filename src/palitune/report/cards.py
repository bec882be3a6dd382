"""One judged example as the page shows it: pictures, texts with their differences, score."""

import base64
import io
import math
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import TYPE_CHECKING

from palitune.examples import Instance
from palitune.report import selection
from palitune.report.drawing import draw_instances, load_shown
from palitune.report.run_folder import Answer, Judged, objects
from palitune.report.summary import written

if TYPE_CHECKING:
    from PIL.Image import Image

Segments = tuple[tuple[str, bool], ...]
"""Text in pieces; True where a piece differs from what it is compared with."""

# Longer texts are shown without marks: finding them takes time that grows with the square.
_LONGEST_MARKED = 1500
# Below this similarity marks would cover nearly everything and say nothing.
_LEAST_ALIKE = 0.4
_WEBP_QUALITY = 82
# Pixels of the shorter side of an image without boxes: written text must stay legible enlarged.
_SHORT_ALONE = 700


@dataclass(frozen=True)
class Picture:
    caption: str
    """`reference`, `after`, ...; empty where the picture stands alone."""
    note: str
    """How many objects are drawn; empty where there are none to draw."""
    source: str
    """A data URI."""
    alt: str
    width: int
    height: int


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
    change: str
    """Change of the main score from before to after; empty where unknown."""
    improved: bool | None
    wide: bool
    """Whether pictures with boxes stand side by side."""
    pictures: tuple[Picture, ...]
    lines: tuple[Line, ...]
    details: tuple[tuple[str, str], ...]
    """(caption, text) of what is folded away: raw texts, all scores."""


def card(example: Judged) -> Card:
    """Draw and write everything that the page shows of one example."""
    found = selection.main_score(example.after)
    change, improved = _change(example)
    return Card(
        id=example.id,
        part=example.part,
        prefix=example.prefix,
        grade=grade(example.after),
        score="no score" if found is None else f"{found[0]} {written(*found)}",
        change=change,
        improved=improved,
        wide=example.draws_boxes,
        pictures=_box_pictures(example) if example.draws_boxes else _plain_pictures(example),
        lines=_malformed_lines(example) if example.draws_boxes else _lines(example),
        details=_details(example),
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


def _answers(example: Judged) -> list[tuple[str, Answer]]:
    if example.before is None:
        return [("prediction", example.after)]
    return [("after", example.after), ("before", example.before)]


def _malformed_lines(example: Judged) -> tuple[Line, ...]:
    return tuple(
        Line(caption, (((answer.text, False),),), malformed=True)
        for caption, answer in _answers(example)
        if answer.value is None
    )


def _lines(example: Judged) -> tuple[Line, ...]:
    references = tuple(text for text in example.reference if isinstance(text, str))
    after = example.after.value
    plain: tuple[Segments, ...] = tuple(((reference, False),) for reference in references)
    if len(references) == 1 and isinstance(after, str) and after:
        plain = (differences(references[0], after)[0],)
    lines = [Line("reference" if len(references) == 1 else "references", plain)]
    for caption, answer in _answers(example):
        lines.append(Line(caption, (_marked(answer, references),), answer.value is None))
    return tuple(lines)


def _marked(answer: Answer, references: tuple[str, ...]) -> Segments:
    """The answer with what the nearest reference lacks; the raw text where it is malformed."""
    if not isinstance(answer.value, str):
        return ((answer.text, False),)
    value = answer.value
    if value in references or not value or not references:
        return ((value, False),)
    nearest = max(references, key=lambda r: SequenceMatcher(None, r, value).quick_ratio())
    return differences(value, nearest)[0]


def _details(example: Judged) -> tuple[tuple[str, str], ...]:
    details: list[tuple[str, str]] = []
    for caption, answer in _answers(example):
        scores = [f"{name} {written(name, score)}" for name, score in answer.scores.items()]
        details += [
            (f"{caption}, raw text", answer.text),
            (f"{caption}, objects", _listed(objects(answer.value))),
            (f"{caption}, scores", ", ".join(scores)),
        ]
    details.append(("reference, objects", _listed(objects(example.reference))))
    return tuple((caption, text) for caption, text in details if text)


def _listed(instances: tuple[Instance, ...]) -> str:
    return "\n".join(
        f"{i.label}  [{', '.join(f'{side:.0f}' for side in i.box)}]"
        + ("" if i.score is None else f"  {i.score:.2f}")
        for i in instances
    )


def _plain_pictures(example: Judged) -> tuple[Picture, ...]:
    return tuple(
        _picture(
            load_shown(path, example.size, short=_SHORT_ALONE),
            caption=f"image {place}" if len(example.images) > 1 else "",
            note="",
            alt=f"Input image {Path(path).name}",
        )
        for place, path in enumerate(example.images, start=1)
    )


def _box_pictures(example: Judged) -> tuple[Picture, ...]:
    shown = load_shown(example.images[0], example.size)
    references = objects(example.reference)
    drawn = [("reference", references)]
    drawn += [(caption, objects(answer.value)) for caption, answer in _answers(example)]
    return tuple(
        _picture(
            draw_instances(
                shown,
                instances,
                size=example.size,
                ghosts=references if caption != "reference" else (),
            ),
            caption=caption,
            note=_counted(instances),
            alt=f"{caption} on {Path(example.images[0]).name}: {_named(instances)}",
        )
        for caption, instances in drawn
    )


def _counted(instances: tuple[Instance, ...]) -> str:
    return "1 object" if len(instances) == 1 else f"{len(instances) or 'no'} objects"


def _named(instances: tuple[Instance, ...]) -> str:
    return ", ".join(instance.label for instance in instances) or "no objects"


def _picture(image: "Image", *, caption: str, note: str, alt: str) -> Picture:
    encoded = io.BytesIO()
    image.save(encoded, "WEBP", quality=_WEBP_QUALITY)
    source = f"data:image/webp;base64,{base64.b64encode(encoded.getvalue()).decode('ascii')}"
    return Picture(caption, note, source, alt, image.width, image.height)
