"""Choose which examples a report shows: galleries of some, and others up to a number."""

import math
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from palitune.metrics import higher_is_better, perfect_value
from palitune.report.run_reader import EvaluatedExample, ScoredPrediction


@dataclass(frozen=True)
class Gallery:
    """Examples of every part that have something in common."""

    key: str
    title: str
    description: str
    select: Callable[[list[EvaluatedExample]], list[EvaluatedExample]]
    """Out of one part's examples, in the order in which they are shown."""


@dataclass(frozen=True)
class SelectedExample:
    example: EvaluatedExample
    gallery_positions: dict[str, int]
    """Its place in each gallery that it stands in, by the gallery's key."""


def by_part(examples: Iterable[EvaluatedExample]) -> dict[str, list[EvaluatedExample]]:
    parts: dict[str, list[EvaluatedExample]] = {}
    for example in examples:
        parts.setdefault(example.part, []).append(example)
    return parts


def at_random(
    examples: list[EvaluatedExample], count: int, seed: int = 0
) -> list[EvaluatedExample]:
    """Draw examples, always the same ones for the same seed, in the order of the file."""
    drawn = random.Random(seed).sample(range(len(examples)), min(count, len(examples)))
    return [examples[index] for index in sorted(drawn)]


def worst(examples: list[EvaluatedExample], count: int) -> list[EvaluatedExample]:
    """The lowest by the main score, ties by the other scores; none that is without fault."""
    faulty = [example for example in examples if normalized_score(example.after) < 1]
    return sorted(faulty, key=lambda example: _normalized_scores(example.after))[:count]


def best_scored(examples: list[EvaluatedExample], count: int) -> list[EvaluatedExample]:
    """The highest by the main score, ties by the other scores; none without any merit."""
    good = [example for example in examples if normalized_score(example.after) > 0]
    return sorted(good, key=lambda example: _normalized_scores(example.after), reverse=True)[:count]


def malformed_examples(examples: list[EvaluatedExample], count: int) -> list[EvaluatedExample]:
    """The first whose answer could not be read."""
    return [example for example in examples if example.after.value is None][:count]


def most_changed(
    examples: list[EvaluatedExample], count: int, *, better: bool
) -> list[EvaluatedExample]:
    """Those whose main score rose (or fell) most from before to after."""
    sign = 1 if better else -1
    changed = [example for example in examples if sign * score_gain(example) > 0]
    return sorted(changed, key=lambda example: -sign * score_gain(example))[:count]


def main_score(prediction: ScoredPrediction) -> tuple[str, float] | None:
    """The score that the task is judged by first; None where the example has none."""
    scores = [(name, score) for name, score in prediction.scores.items() if not math.isnan(score)]
    return scores[0] if scores else None


def normalized_score(prediction: ScoredPrediction) -> float:
    """The main score turned so that more is better and 1 is without fault; NaN without one."""
    found = main_score(prediction)
    return math.nan if found is None else _normalize_score(*found)


def score_gain(example: EvaluatedExample) -> float:
    """How much better the main score became; NaN where one side of it is missing."""
    found = main_score(example.after)
    if found is None or example.before is None or found[0] not in example.before.scores:
        return math.nan
    return _normalize_score(*found) - _normalize_score(found[0], example.before.scores[found[0]])


def _normalize_score(name: str, score: float) -> float:
    return score / perfect_value(name) if higher_is_better(name) else 1 - score


def _normalized_scores(prediction: ScoredPrediction) -> tuple[float, ...]:
    return tuple(
        _normalize_score(*item) for item in prediction.scores.items() if not math.isnan(item[1])
    )


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
        lambda judged: malformed_examples(judged, 12),
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


def select_examples(examples: list[EvaluatedExample], max_examples: int) -> list[SelectedExample]:
    """Take one part's galleries, and of its other examples the first up to `most` in all.

    They come in the order of the file.
    """
    places: dict[int, dict[str, int]] = {}
    for gallery in GALLERIES:
        for place, example in enumerate(gallery.select(examples)):
            places.setdefault(id(example), {})[gallery.key] = place
    room = max(0, max_examples - len(places))
    others = [example for example in examples if id(example) not in places][:room]
    shown = places.keys() | {id(example) for example in others}
    return [SelectedExample(e, places.get(id(e), {})) for e in examples if id(e) in shown]
