"""CIDEr-D of one caption at a time, as a share of the best there is.

How telling words are is fixed by the captions that are learned from, since a single image tells
nothing of it; on those the number is a tenth of `metrics.captions`' own.
"""

import math
from collections import Counter
from collections.abc import Sequence

from palitune.metrics.base import answer_text, reference_texts
from palitune.metrics.captions.cider_bleu_rouge import CIDER_SIGMA
from palitune.metrics.captions.ngrams import NGRAM_ORDERS
from palitune.metrics.captions.ptb_tokenizer import ptb_tokenize
from palitune.records import Example, Prediction

Ngram = tuple[str, ...]


class CaptionReward:
    """`examples`: those that are learned from."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self._num_images = max(1, len(examples))
        self._document_frequency: Counter[Ngram] = Counter()
        """In how many images' references each n-gram stands."""
        for example in examples:
            grams = (_count_ngrams(_split_tokens(text)) for text in reference_texts(example))
            self._document_frequency.update({gram for counted in grams for gram in counted})

    def __call__(self, prediction: Prediction, example: Example) -> float:
        """Return the CIDEr-D in [0, 1]."""
        words = _split_tokens(answer_text(prediction))
        found = [self._cider_d(words, _split_tokens(text)) for text in reference_texts(example)]
        return min(1.0, sum(found) / len(found))

    def _cider_d(self, answer: list[str], reference: list[str]) -> float:
        ours, theirs = self._tf_idf(answer), self._tf_idf(reference)
        total = 0.0
        for order in NGRAM_ORDERS:
            own = {gram: weight for gram, weight in ours.items() if len(gram) == order}
            other = {gram: weight for gram, weight in theirs.items() if len(gram) == order}
            norm = math.hypot(*own.values()) * math.hypot(*other.values())
            shared = sum(min(own[gram], other[gram]) * other[gram] for gram in own if gram in other)
            total += shared / norm if norm else 0.0
        difference = max(0, len(answer) - 1) - max(0, len(reference) - 1)  # in bigrams, as there
        return total / len(NGRAM_ORDERS) * math.exp(-(difference**2) / (2 * CIDER_SIGMA**2))

    def _tf_idf(self, words: list[str]) -> dict[Ngram, float]:
        return {
            gram: count
            * (math.log(self._num_images) - math.log(max(1, self._document_frequency[gram])))
            for gram, count in _count_ngrams(words).items()
        }


def _split_tokens(text: str) -> list[str]:
    return " ".join(ptb_tokenize(text)).split()


def _count_ngrams(words: list[str]) -> Counter[Ngram]:
    return Counter(
        tuple(words[start : start + order])
        for order in NGRAM_ORDERS
        for start in range(len(words) - order + 1)
    )
