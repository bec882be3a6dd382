"""Text spotting: words found where they are (IoU .5), read right (end to end) or only found.

Case is ignored where words are compared, as the ICDAR competitions do. Words that are marked as
ignored (`Instance.crowd`) need not be found, and a prediction at least half inside one of them that
matches no other word is no mistake, whatever it reads.
"""

from dataclasses import replace

import numpy as np

from palitune.metrics.base import FloatArray, Metric, ResampleCounts, ratio, require_objects
from palitune.metrics.objects.matching import MatchCounts, count_matches
from palitune.records import Example, Instance, Prediction


class TextSpotting(Metric):
    """Report precision, recall and F1 over all words of all images, end to end and of boxes."""

    def __init__(self) -> None:
        self.match_counts: list[tuple[int, ...]] = []
        """Words found, invented and missed of each example: end to end, then of boxes."""

    def update(self, example: Example, prediction: Prediction) -> dict[str, float]:
        reference = require_objects(example.reference, f"example {example.id}")
        predicted = require_objects(prediction.value or (), f"prediction {prediction.id}")
        read = _count_word_matches(_casefold_labels(predicted), _casefold_labels(reference))
        boxes = _count_word_matches(_without_labels(predicted), _without_labels(reference))
        self.match_counts.append(
            (
                read.true_positives,
                read.false_positives,
                read.false_negatives,
                boxes.true_positives,
                boxes.false_positives,
                boxes.false_negatives,
            )
        )
        is_empty = read == MatchCounts(0, 0, 0)
        return {"word_f1@.5": 1.0 if is_empty else read.f1}

    def compute(self) -> dict[str, float]:
        numbers = self.compute_weighted(np.ones((1, len(self.match_counts))))
        return {name: float(values[0]) for name, values in numbers.items()}

    def compute_weighted(self, counts: ResampleCounts) -> dict[str, FloatArray]:
        sums = (counts @ np.array(self.match_counts, float).reshape(-1, 6)).T
        read, invented, missed, boxed, boxes_invented, boxes_missed = sums
        return {
            "word_precision@.5": ratio(read, read + invented),
            "word_recall@.5": ratio(read, read + missed),
            "word_f1@.5": ratio(2 * read, 2 * read + invented + missed),
            "word_box_f1@.5": ratio(2 * boxed, 2 * boxed + boxes_invented + boxes_missed),
        }


def _count_word_matches(predicted: list[Instance], reference: list[Instance]) -> MatchCounts:
    """Count matches; an ignored region excuses every word."""
    words = {instance.label for instance in predicted}
    single = [instance for instance in reference if not instance.crowd]
    ignored = [replace(i, label=word) for i in reference if i.crowd for word in sorted(words)]
    return count_matches(predicted, [*single, *ignored])


def _casefold_labels(words: tuple[Instance, ...]) -> list[Instance]:
    return [replace(word, label=word.label.casefold()) for word in words]


def _without_labels(words: tuple[Instance, ...]) -> list[Instance]:
    return [replace(word, label="") for word in words]
