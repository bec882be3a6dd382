"""Text spotting: words found where they are (IoU .5), read right (end to end) or only found.

Case is ignored where words are compared, as the ICDAR competitions do. Words that are marked as
ignored (`Instance.crowd`) need not be found, and a prediction at least half inside one of them that
matches no other word is no mistake, whatever it reads.
"""

from dataclasses import replace

import numpy as np

from palitune.examples import Example, Instance, Prediction
from palitune.metrics.base import Counts, Floats, Metric, objects_of, ratio
from palitune.metrics.matching import Matches, match


class TextSpotting(Metric):
    """Report precision, recall and F1 over all words of all images, end to end and of boxes."""

    def __init__(self) -> None:
        self.counted: list[tuple[int, ...]] = []
        """Words found, invented and missed of each example: end to end, then of boxes."""

    def update(self, example: Example, prediction: Prediction) -> dict[str, float]:
        reference = objects_of(example.reference, f"example {example.id}")
        predicted = objects_of(prediction.value or (), f"prediction {prediction.id}")
        read = _matches(_folded(predicted), _folded(reference))
        boxes = _matches(_unlabelled(predicted), _unlabelled(reference))
        self.counted.append(
            (read.found, read.invented, read.missed, boxes.found, boxes.invented, boxes.missed)
        )
        is_empty = read == Matches(0, 0, 0)
        return {"word_f1@.5": 1.0 if is_empty else read.f1}

    def compute(self) -> dict[str, float]:
        numbers = self.weighted(np.ones((1, len(self.counted))))
        return {name: float(values[0]) for name, values in numbers.items()}

    def weighted(self, counts: Counts) -> dict[str, Floats]:
        sums = (counts @ np.array(self.counted, float).reshape(-1, 6)).T
        read, invented, missed, boxed, boxes_invented, boxes_missed = sums
        return {
            "word_precision@.5": ratio(read, read + invented),
            "word_recall@.5": ratio(read, read + missed),
            "word_f1@.5": ratio(2 * read, 2 * read + invented + missed),
            "word_box_f1@.5": ratio(2 * boxed, 2 * boxed + boxes_invented + boxes_missed),
        }


def _matches(predicted: list[Instance], reference: list[Instance]) -> Matches:
    """Count matches; an ignored region excuses every word."""
    words = {instance.label for instance in predicted}
    single = [instance for instance in reference if not instance.crowd]
    ignored = [replace(i, label=word) for i in reference if i.crowd for word in sorted(words)]
    return match(predicted, [*single, *ignored])


def _folded(words: tuple[Instance, ...]) -> list[Instance]:
    return [replace(word, label=word.label.casefold()) for word in words]


def _unlabelled(words: tuple[Instance, ...]) -> list[Instance]:
    return [replace(word, label="") for word in words]
