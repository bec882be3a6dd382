"""Answers that were sampled on the way of a tuning: a few prompts at each of some moments."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palitune.data.images import open_image
from palitune.data.views import View
from palitune.examples import Instance, Size, value_from_json
from palitune.report.drawing import draw_instances, load_shown, shown_size
from palitune.report.image_rows import load_row
from palitune.report.pages import Thumbnail, thumbnail
from palitune.report.run_folder import objects

if TYPE_CHECKING:
    from PIL.Image import Image

_SHORT = 150
"""Pixels of the shorter side of a picture."""
_LONGEST = 120
"""Characters of an answer that are shown."""


@dataclass(frozen=True)
class Line:
    """An answer, however often it was sampled."""

    text: str
    times: int
    reward: float
    grade: str
    """full | partial | zero, as the examples' marks."""
    parts: str
    """Each reward by name, where there are several."""


@dataclass(frozen=True)
class Card:
    """The answers to one prompt."""

    id: str
    prefix: str
    mean: float
    pictures: tuple[tuple[str, Thumbnail], ...]
    """(caption, picture); of boxes the best and the worst answer over the reference."""
    lines: tuple[Line, ...]


def moments(samples: Sequence[Mapping[str, Any]]) -> list[tuple[int, list[Card]]]:
    """Sort the lines of `samples.jsonl` by the step after which they were sampled."""
    steps = sorted({sample["step"] for sample in samples})
    return [(step, [_card(one) for one in samples if one["step"] == step]) for step in steps]


def _card(sample: Mapping[str, Any]) -> Card:
    answers = sample["answers"]
    counted = Counter(answer["text"] for answer in answers)
    first = {answer["text"]: answer for answer in reversed(answers)}
    return Card(
        id=sample["id"],
        prefix=sample["prefix"],
        mean=sum(answer["reward"] for answer in answers) / len(answers),
        pictures=_pictures(sample, answers),
        lines=tuple(_line(first[text], times) for text, times in counted.items()),
    )


def _line(answer: Mapping[str, Any], times: int) -> Line:
    reward, text = answer["reward"], answer["text"]
    named = [f"{name} {value:.2f}" for name, value in answer["rewards"].items()]
    return Line(
        text=text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…",
        times=times,
        reward=reward,
        grade="full" if reward >= 1 else "partial" if reward > 0 else "zero",
        parts=", ".join(named) if len(named) > 1 else "",
    )


def _seen(path: str, size: Size, view: View) -> "Image":
    """Open an image as the model saw it; `size` is that of what it saw."""
    from PIL.Image import Resampling

    if not view.moves() or not Path(path).exists():
        return load_shown(path, size, _SHORT)
    return view.picture(open_image(path), shown_size(size, _SHORT), Resampling.LANCZOS)


def _pictures(
    sample: Mapping[str, Any], answers: Sequence[Mapping[str, Any]]
) -> tuple[tuple[str, Thumbnail], ...]:
    images, size = sample["images"], tuple(sample["size"])
    if not images:
        return ()
    name = Path(images[0]).name
    reference = value_from_json(sample["reference"])
    if any(isinstance(item, str) for item in reference):
        return (("", thumbnail(load_row(images, size, _SHORT), f"Input image {name}")),)
    shown = _seen(images[0], size, View(sample["window"], sample["mirrored"]))
    ends = {"best": answers[0], "worst": answers[-1]}
    if answers[0]["reward"] == answers[-1]["reward"]:
        del ends["worst"]
    drawn = []
    for caption, answer in ends.items():
        found: tuple[Instance, ...] = objects(value_from_json(answer["prediction"]))
        picture = draw_instances(shown, found, size=size, ghosts=reference)
        labels = ", ".join(one.label for one in found) or "no objects"
        drawn.append((caption, thumbnail(picture, f"{caption} answer on {name}: {labels}")))
    return tuple(drawn)
