"""CIDEr-D of one caption at a time, as a share of the best there is.

How telling words are is fixed by the captions that are learned from, since a single image tells
nothing of it; on those the number is a tenth of `metrics.captions`' own.
"""

import math
from collections import Counter
from collections.abc import Sequence

from palitune.examples import Example, Prediction
from palitune.metrics.base import answer_of, references_of
from palitune.metrics.captions import SIGMA
from palitune.metrics.ngrams import ORDERS
from palitune.metrics.ptb import tokenize

Gram = tuple[str, ...]


class CaptionReward:
    """`examples`: those that are learned from."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self._images = max(1, len(examples))
        self._frequency: Counter[Gram] = Counter()
        """In how many images' references each n-gram stands."""
        for example in examples:
            grams = (_grams(_words(text)) for text in references_of(example))
            self._frequency.update({gram for counted in grams for gram in counted})

    def __call__(self, prediction: Prediction, example: Example) -> float:
        """Return the CIDEr-D in [0, 1]."""
        words = _words(answer_of(prediction))
        found = [self._likeness(words, _words(text)) for text in references_of(example)]
        return min(1.0, sum(found) / len(found))

    def _likeness(self, answer: list[str], wanted: list[str]) -> float:
        ours, theirs = self._weights(answer), self._weights(wanted)
        total = 0.0
        for order in ORDERS:
            own = {gram: weight for gram, weight in ours.items() if len(gram) == order}
            other = {gram: weight for gram, weight in theirs.items() if len(gram) == order}
            norm = math.hypot(*own.values()) * math.hypot(*other.values())
            shared = sum(min(own[gram], other[gram]) * other[gram] for gram in own if gram in other)
            total += shared / norm if norm else 0.0
        difference = max(0, len(answer) - 1) - max(0, len(wanted) - 1)  # in bigrams, as there
        return total / len(ORDERS) * math.exp(-(difference**2) / (2 * SIGMA**2))

    def _weights(self, words: list[str]) -> dict[Gram, float]:
        return {
            gram: count * (math.log(self._images) - math.log(max(1, self._frequency[gram])))
            for gram, count in _grams(words).items()
        }


def _words(text: str) -> list[str]:
    return " ".join(tokenize(text)).split()


def _grams(words: list[str]) -> Counter[Gram]:
    return Counter(
        tuple(words[start : start + order])
        for order in ORDERS
        for start in range(len(words) - order + 1)
    )
