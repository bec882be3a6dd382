"""Text spotting: precision, recall and F1 of words at IoU .5, with and without their transcription.

Case is ignored when words are compared, as in the ICDAR competitions. Words marked as ignored
(`Instance.crowd`) need no match, and a prediction at least half inside one of them that matches no
other word is not counted, whatever its text.
"""

from dataclasses import astuple, replace
from typing import ClassVar

from palitune.metrics.base import (
    FloatArray,
    ResampleCounts,
    SummedMetric,
    predicted_objects,
    ratio,
    reference_objects,
)
from palitune.metrics.objects.matching import MatchCounts, count_matches
from palitune.records import Example, Instance, Prediction


class TextSpotting(SummedMetric):
    """Precision, recall and F1 over all words of all images, end to end and of boxes."""

    num_statistics: ClassVar[int] = 6

    def update(self, example: Example, prediction: Prediction) -> dict[str, float]:
        reference, predicted = reference_objects(example), predicted_objects(prediction)
        words = _count_word_matches(_casefold_labels(predicted), _casefold_labels(reference))
        boxes = _count_word_matches(_without_labels(predicted), _without_labels(reference))
        self.statistics.append((*astuple(words), *astuple(boxes)))
        return {"word_f1@.5": 1.0 if words == MatchCounts(0, 0, 0) else words.f1}

    def compute_weighted(self, counts: ResampleCounts) -> dict[str, FloatArray]:
        correct, invented, missed, boxes, boxes_invented, boxes_missed = self.sums(counts)
        return {
            "word_precision@.5": ratio(correct, correct + invented),
            "word_recall@.5": ratio(correct, correct + missed),
            "word_f1@.5": ratio(2 * correct, 2 * correct + invented + missed),
            "word_box_f1@.5": ratio(2 * boxes, 2 * boxes + boxes_invented + boxes_missed),
        }


def _count_word_matches(predicted: list[Instance], reference: list[Instance]) -> MatchCounts:
    """Count matches; an ignored region ignores predictions with any text."""
    labels = {instance.label for instance in predicted}
    words = [instance for instance in reference if not instance.crowd]
    ignored = [replace(i, label=label) for i in reference if i.crowd for label in sorted(labels)]
    return count_matches(predicted, [*words, *ignored])


def _casefold_labels(words: tuple[Instance, ...]) -> list[Instance]:
    return [replace(word, label=word.label.casefold()) for word in words]


def _without_labels(words: tuple[Instance, ...]) -> list[Instance]:
    return [replace(word, label="") for word in words]
