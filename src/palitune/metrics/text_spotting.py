"""Text spotting: words found where they are (IoU .5), read right (end to end) or only found.

Case is ignored where words are compared, as the ICDAR competitions do. Words that are marked as
ignored (`Instance.crowd`) need not be found, and a prediction at least half inside one of them that
matches no other word is no mistake, whatever it reads.
"""

from dataclasses import replace

from palitune.examples import Example, Instance, Prediction
from palitune.metrics.base import Metric, objects_of
from palitune.metrics.detection_ap import Matches, match


class TextSpotting(Metric):
    """Report precision, recall and F1 over all words of all images, end to end and of boxes."""

    def __init__(self) -> None:
        self.read = Matches(0, 0, 0)
        self.found = Matches(0, 0, 0)

    def update(self, example: Example, prediction: Prediction) -> dict[str, float]:
        reference = objects_of(example.reference, f"example {example.id}")
        predicted = objects_of(prediction.value or (), f"prediction {prediction.id}")
        read = _matches(_folded(predicted), _folded(reference))
        self.read += read
        self.found += _matches(_unlabelled(predicted), _unlabelled(reference))
        is_empty = read == Matches(0, 0, 0)
        return {"word_f1@.5": 1.0 if is_empty else read.f1}

    def compute(self) -> dict[str, float]:
        return {
            "word_precision@.5": self.read.precision,
            "word_recall@.5": self.read.recall,
            "word_f1@.5": self.read.f1,
            "word_box_f1@.5": self.found.f1,
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
