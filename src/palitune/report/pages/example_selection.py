"""Selection of the examples in a report: galleries, and further ones up to a maximum."""

import math
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from palitune.metrics import higher_is_better, perfect_value
from palitune.report.run_reader import EvaluatedExample, ScoredPrediction


@dataclass(frozen=True)
class ExampleGallery:
    """Examples of every part that are selected by one criterion."""

    key: str
    title: str
    description: str
    select: Callable[[list[EvaluatedExample]], list[EvaluatedExample]]
    """Selects from the examples of one part, in the order of the gallery."""


@dataclass(frozen=True)
class SelectedExample:
    example: EvaluatedExample
    gallery_positions: dict[str, int]
    """Position in each gallery with this example, by the key of the gallery."""


def by_part(examples: Iterable[EvaluatedExample]) -> dict[str, list[EvaluatedExample]]:
    parts: dict[str, list[EvaluatedExample]] = {}
    for example in examples:
        parts.setdefault(example.part, []).append(example)
    return parts


def at_random(
    examples: list[EvaluatedExample], count: int, seed: int = 0
) -> list[EvaluatedExample]:
    """Return a random sample, which depends only on the seed, in the order of the file."""
    indices = random.Random(seed).sample(range(len(examples)), min(count, len(examples)))
    return [examples[index] for index in sorted(indices)]


def worst(examples: list[EvaluatedExample], count: int) -> list[EvaluatedExample]:
    """Return the lowest main scores, with ties broken by other scores; no perfect examples."""
    imperfect = [example for example in examples if normalized_score(example.after) < 1]
    return sorted(imperfect, key=lambda example: _normalized_scores(example.after))[:count]


def best_scored(examples: list[EvaluatedExample], count: int) -> list[EvaluatedExample]:
    """Return the highest main scores, with ties broken by other scores; no zero scores."""
    good = [example for example in examples if normalized_score(example.after) > 0]
    return sorted(good, key=lambda example: _normalized_scores(example.after), reverse=True)[:count]


def malformed_examples(examples: list[EvaluatedExample], count: int) -> list[EvaluatedExample]:
    """Return the first examples with a malformed prediction."""
    return [example for example in examples if example.after.value is None][:count]


def most_changed(
    examples: list[EvaluatedExample], count: int, *, better: bool
) -> list[EvaluatedExample]:
    """Return the examples whose main score improved (or worsened) most by training."""
    sign = 1 if better else -1
    changed = [example for example in examples if sign * score_gain(example) > 0]
    return sorted(changed, key=lambda example: -sign * score_gain(example))[:count]


def main_score(prediction: ScoredPrediction) -> tuple[str, float] | None:
    """Return name and value of the first defined score; None without one."""
    scores = [(name, score) for name, score in prediction.scores.items() if not math.isnan(score)]
    return scores[0] if scores else None


def normalized_score(prediction: ScoredPrediction) -> float:
    """Return the main score such that higher is better and 1 is perfect; NaN without one."""
    score = main_score(prediction)
    return math.nan if score is None else _normalize_score(*score)


def score_gain(example: EvaluatedExample) -> float:
    """Return the change of the normalized main score; NaN if a side is missing."""
    score = main_score(example.after)
    if score is None or example.before is None or score[0] not in example.before.scores:
        return math.nan
    name, value = score
    return _normalize_score(name, value) - _normalize_score(name, example.before.scores[name])


def _normalize_score(name: str, score: float) -> float:
    return score / perfect_value(name) if higher_is_better(name) else 1 - score


def _normalized_scores(prediction: ScoredPrediction) -> tuple[float, ...]:
    return tuple(
        _normalize_score(*item) for item in prediction.scores.items() if not math.isnan(item[1])
    )


GALLERIES = (
    ExampleGallery(
        "sample",
        "Random",
        "A random sample, the same each time this page is written.",
        lambda examples: at_random(examples, 12),
    ),
    ExampleGallery(
        "worst",
        "Worst",
        "The lowest scores of each part: often wrong labels and hard cases.",
        lambda examples: worst(examples, 12),
    ),
    ExampleGallery(
        "best",
        "Best",
        "The highest scores of each part.",
        lambda examples: best_scored(examples, 8),
    ),
    ExampleGallery(
        "malformed",
        "Malformed",
        "Generated texts that could not be parsed; they are scored as empty.",
        lambda examples: malformed_examples(examples, 12),
    ),
    ExampleGallery(
        "improved",
        "Most improved",
        "The largest improvements by training.",
        lambda examples: most_changed(examples, 8, better=True),
    ),
    ExampleGallery(
        "worsened",
        "Most worsened",
        "The largest losses by training.",
        lambda examples: most_changed(examples, 8, better=False),
    ),
)


def select_examples(examples: list[EvaluatedExample], max_examples: int) -> list[SelectedExample]:
    """Return the galleries of one part and its first other examples, in the order of the file.

    `max_examples` limits the other examples; all galleries are included.
    """
    positions: dict[int, dict[str, int]] = {}
    for gallery in GALLERIES:
        for position, example in enumerate(gallery.select(examples)):
            positions.setdefault(id(example), {})[gallery.key] = position
    num_others = max(0, max_examples - len(positions))
    others = [example for example in examples if id(example) not in positions][:num_others]
    selected = positions.keys() | {id(example) for example in others}
    return [SelectedExample(e, positions.get(id(e), {})) for e in examples if id(e) in selected]
