"""CIDEr-D of single captions, divided by 10 because the metric `cider_d` is between 0 and 10.

The document frequencies are those of the training examples, because one image has none. The mean
reward of all training examples equals a tenth of their `cider_d`.
"""

import math
from collections import Counter
from collections.abc import Sequence

from palitune.metrics.base import answer_text, mean, reference_texts
from palitune.metrics.captions.cider_bleu_rouge import CIDER_SIGMA
from palitune.metrics.captions.ngrams import NGRAM_ORDERS
from palitune.metrics.captions.ptb_tokenizer import ptb_tokenize
from palitune.records import Example, Prediction

Ngram = tuple[str, ...]


class CaptionReward:
    """Scores captions with the document frequencies of the training examples."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self._num_images = max(1, len(examples))
        self._document_frequency: Counter[Ngram] = Counter()
        """Number of images whose references contain each n-gram."""
        for example in examples:
            counts = (_count_ngrams(_split_tokens(text)) for text in reference_texts(example))
            self._document_frequency.update({gram for grams in counts for gram in grams})

    def __call__(self, prediction: Prediction, example: Example) -> float:
        """Return the CIDEr-D in [0, 1]."""
        words = _split_tokens(answer_text(prediction))
        return min(
            1.0, mean([self._cider_d(words, _split_tokens(t)) for t in reference_texts(example)])
        )

    def _cider_d(self, answer: list[str], reference: list[str]) -> float:
        """Return the mean over the n-gram orders, with CIDEr-D's clipping and length penalty."""
        total = 0.0
        for order in NGRAM_ORDERS:
            predicted, expected = self._tf_idf(answer, order), self._tf_idf(reference, order)
            norm = math.hypot(*predicted.values()) * math.hypot(*expected.values())
            shared = sum(
                min(weight, expected[gram]) * expected[gram]
                for gram, weight in predicted.items()
                if gram in expected
            )
            total += shared / norm if norm else 0.0
        difference = max(0, len(answer) - 1) - max(
            0, len(reference) - 1
        )  # pycocoevalcap counts bigrams
        return total / len(NGRAM_ORDERS) * math.exp(-(difference**2) / (2 * CIDER_SIGMA**2))

    def _tf_idf(self, words: list[str], order: int) -> dict[Ngram, float]:
        return {
            gram: count
            * (math.log(self._num_images) - math.log(max(1, self._document_frequency[gram])))
            for gram, count in _count_ngrams(words, (order,)).items()
        }


def _split_tokens(text: str) -> list[str]:
    return " ".join(ptb_tokenize(text)).split()


def _count_ngrams(words: list[str], orders: Sequence[int] = NGRAM_ORDERS) -> Counter[Ngram]:
    return Counter(
        tuple(words[start : start + order])
        for order in orders
        for start in range(len(words) - order + 1)
    )
