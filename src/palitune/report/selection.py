"""Choose which examples a report shows: galleries of some, and others up to a number."""

import math
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from palitune.metrics import best, higher_is_better
from palitune.report.run_folder import Answer, Judged


@dataclass(frozen=True)
class Gallery:
    """Examples of every part that have something in common."""

    key: str
    title: str
    lead: str
    choose: Callable[[list[Judged]], list[Judged]]
    """Out of one part's examples, in the order in which they are shown."""


@dataclass(frozen=True)
class Chosen:
    example: Judged
    places: dict[str, int]
    """Its place in each gallery that it stands in, by the gallery's key."""


def by_part(judged: Iterable[Judged]) -> dict[str, list[Judged]]:
    parts: dict[str, list[Judged]] = {}
    for example in judged:
        parts.setdefault(example.part, []).append(example)
    return parts


def at_random(judged: list[Judged], count: int, seed: int = 0) -> list[Judged]:
    """Draw examples, always the same ones for the same seed, in the order of the file."""
    drawn = random.Random(seed).sample(range(len(judged)), min(count, len(judged)))
    return [judged[index] for index in sorted(drawn)]


def worst(judged: list[Judged], count: int) -> list[Judged]:
    """The lowest by the main score, ties by the other scores; none that is without fault."""
    faulty = [example for example in judged if goodness(example.after) < 1]
    return sorted(faulty, key=lambda example: _all_goodness(example.after))[:count]


def best_scored(judged: list[Judged], count: int) -> list[Judged]:
    """The highest by the main score, ties by the other scores; none without any merit."""
    good = [example for example in judged if goodness(example.after) > 0]
    return sorted(good, key=lambda example: _all_goodness(example.after), reverse=True)[:count]


def malformed(judged: list[Judged], count: int) -> list[Judged]:
    """The first whose answer could not be read."""
    return [example for example in judged if example.after.value is None][:count]


def most_changed(judged: list[Judged], count: int, *, better: bool) -> list[Judged]:
    """Those whose main score rose (or fell) most from before to after."""
    sign = 1 if better else -1
    changed = [example for example in judged if sign * change(example) > 0]
    return sorted(changed, key=lambda example: -sign * change(example))[:count]


def main_score(answer: Answer) -> tuple[str, float] | None:
    """The score that the task is judged by first; None where the example has none."""
    scores = [(name, score) for name, score in answer.scores.items() if not math.isnan(score)]
    return scores[0] if scores else None


def goodness(answer: Answer) -> float:
    """The main score turned so that more is better and 1 is without fault; NaN without one."""
    found = main_score(answer)
    return math.nan if found is None else _good(*found)


def change(example: Judged) -> float:
    """How much better the main score became; NaN where one side of it is missing."""
    found = main_score(example.after)
    if found is None or example.before is None or found[0] not in example.before.scores:
        return math.nan
    return _good(*found) - _good(found[0], example.before.scores[found[0]])


def _good(name: str, score: float) -> float:
    return score / best(name) if higher_is_better(name) else 1 - score


def _all_goodness(answer: Answer) -> tuple[float, ...]:
    return tuple(_good(*item) for item in answer.scores.items() if not math.isnan(item[1]))


GALLERIES = (
    Gallery(
        "sample",
        "Random",
        "An honest sample: chosen by chance, the same ones whenever this page is written.",
        lambda judged: at_random(judged, 12),
    ),
    Gallery(
        "worst",
        "Worst",
        "The lowest scores of each part: where to look for wrong labels and hard cases.",
        lambda judged: worst(judged, 12),
    ),
    Gallery(
        "best",
        "Best",
        "The highest scores of each part.",
        lambda judged: best_scored(judged, 8),
    ),
    Gallery(
        "malformed",
        "Malformed",
        "Answers that the task could not read; they count as empty.",
        lambda judged: malformed(judged, 12),
    ),
    Gallery(
        "improved",
        "Most improved",
        "Where adaptation raised the score most.",
        lambda judged: most_changed(judged, 8, better=True),
    ),
    Gallery(
        "worsened",
        "Became worse",
        "Where adaptation lowered the score most.",
        lambda judged: most_changed(judged, 8, better=False),
    ),
)


def choose(judged: list[Judged], most: int) -> list[Chosen]:
    """Take one part's galleries, and of its other examples the first up to `most` in all.

    They come in the order of the file.
    """
    places: dict[int, dict[str, int]] = {}
    for gallery in GALLERIES:
        for place, example in enumerate(gallery.choose(judged)):
            places.setdefault(id(example), {})[gallery.key] = place
    room = max(0, most - len(places))
    others = [example for example in judged if id(example) not in places][:room]
    shown = places.keys() | {id(example) for example in others}
    return [Chosen(e, places.get(id(e), {})) for e in judged if id(e) in shown]
