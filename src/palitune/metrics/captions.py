"""CIDEr-D, BLEU and ROUGE-L of captions, as the COCO caption evaluation computes them.

Each follows pycocoevalcap, the evaluation's code in Python 3, on the tokens of `tokenize`.
`cider_d` is what that code and the tables of papers call CIDEr: n-grams of length 1 to 4 weighted
by tf-idf, clipped, with a Gaussian penalty on the difference in length (sigma 6, lengths counted in
bigrams), times 10. Document frequencies come from the references that are being evaluated, so a
subset has other scores, and a single image scores 0. It lies in [0, 10]; papers print it times 100.
`bleu` is a corpus number: counts are summed over images before they are divided; the length of the
reference is the closest one, of two the shorter. `rouge_l` takes the best precision and the best
recall over the references, each by itself, with beta 1.2.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from palitune.examples import Example, Prediction
from palitune.metrics import BEST_CIDER
from palitune.metrics.base import (
    CorpusMeanMetric,
    Counts,
    Floats,
    MeanMetric,
    Metric,
    answer_of,
    check_references,
    references_of,
)
from palitune.metrics.ngrams import ORDERS, Corpus, distinct
from palitune.metrics.ptb import tokenize

Tokenizer = Callable[[str], list[str]]

SIGMA = 6.0
"""Width of CIDEr-D's penalty on a difference in length, in bigrams."""
BETA = 1.2
"""Weight of recall in ROUGE-L."""


def cider_d(
    predictions: Mapping[str, str],
    references: Mapping[str, Sequence[str]],
    *,
    tokenizer: Tokenizer = tokenize,
) -> tuple[float, dict[str, float]]:
    """Return the corpus score in [0, 10], the mean over images, and that of each image.

    Raises ValueError where the two do not name the same images, or one has no reference.
    """
    scores = _cider(_corpus(predictions, references, tokenizer))
    return float(scores.mean()), dict(zip(predictions, scores.tolist(), strict=True))


def bleu(
    predictions: Mapping[str, str],
    references: Mapping[str, Sequence[str]],
    *,
    tokenizer: Tokenizer = tokenize,
) -> tuple[float, float, float, float]:
    """Return BLEU-1 to BLEU-4 of the corpus, in [0, 1].

    Raises ValueError where the two do not name the same images, or one has no reference.
    """
    sums = _bleu_statistics(_corpus(predictions, references, tokenizer)).sum(axis=0, keepdims=True)
    one, two, three, four = _bleu(sums)[0].tolist()
    return one, two, three, four


def rouge_l(
    predictions: Mapping[str, str],
    references: Mapping[str, Sequence[str]],
    *,
    tokenizer: Tokenizer = tokenize,
) -> tuple[float, dict[str, float]]:
    """Return the corpus score in [0, 1], the mean over images, and that of each image.

    Raises ValueError where the two do not name the same images, or one has no reference.
    """
    _check(predictions, references)
    scores = {
        image: _rouge(tokenizer(caption), [tokenizer(text) for text in references[image]])
        for image, caption in predictions.items()
    }
    return sum(scores.values()) / len(scores), scores


def _check(predictions: Mapping[str, str], references: Mapping[str, Sequence[str]]) -> None:
    if differing := predictions.keys() ^ references.keys():
        raise ValueError(
            f"image {min(differing)!r} is on one side only; give a prediction and references of "
            "the same images"
        )
    if not predictions:
        raise ValueError("no captions to judge; give at least one")
    for texts in references.values():
        check_references(texts)


def _corpus(
    predictions: Mapping[str, str], references: Mapping[str, Sequence[str]], tokenizer: Tokenizer
) -> Corpus:
    _check(predictions, references)
    ordered = [references[image] for image in predictions]
    return _tokenized(list(predictions.values()), ordered, tokenizer)


def _tokenized(
    captions: Sequence[str], references: Sequence[Sequence[str]], tokenizer: Tokenizer
) -> Corpus:
    """Cut captions into words: a token with a no-break space inside counts as two, as there."""

    def words(text: str) -> list[str]:
        return " ".join(tokenizer(text)).split()

    return Corpus([words(text) for text in captions], [[words(t) for t in r] for r in references])


def _cider(corpus: Corpus) -> Floats:
    """Return the CIDEr-D of each image, (images,)."""
    similarity = np.zeros(len(corpus.owner))
    for grams in corpus.grams:
        in_images = distinct(corpus.owner[grams.reference] * grams.kinds + grams.wanted)
        frequency = np.bincount(in_images % grams.kinds, minlength=grams.kinds)
        idf = np.log(corpus.images) - np.log(np.maximum(1, frequency))
        value = grams.count * idf[grams.gram]
        wanted = grams.wanted_count * idf[grams.wanted]
        norm = np.sqrt(np.bincount(grams.image, value**2, corpus.images))
        wanted_norm = np.sqrt(np.bincount(grams.reference, wanted**2, len(corpus.owner)))
        both = wanted[grams.shared]
        clipped = np.minimum(value[grams.partner[grams.shared]], both) * both
        product = np.bincount(grams.reference[grams.shared], clipped, len(corpus.owner))
        norms = norm[corpus.owner] * wanted_norm
        similarity += np.divide(product, norms, out=np.zeros_like(norms), where=norms > 0)
    bigrams = np.maximum(0, corpus.lengths - 1)[corpus.owner]
    difference = bigrams - np.maximum(0, corpus.reference_lengths - 1)
    similarity *= np.exp(-(difference**2) / (2 * SIGMA**2)) / len(ORDERS)
    total = np.bincount(corpus.owner, similarity, corpus.images)
    scores: Floats = BEST_CIDER * total / corpus.reference_counts
    return scores


def _bleu_statistics(corpus: Corpus) -> Floats:
    """Return what BLEU sums over images, (images, 10).

    Columns: n-grams that match for n = 1 to 4, n-grams there are, words, words of the reference.
    """
    right, written = [], []
    for order, grams in zip(ORDERS, corpus.grams, strict=True):
        most = np.zeros(len(grams.count), np.int64)
        np.maximum.at(most, grams.partner[grams.shared], grams.wanted_count[grams.shared])
        matching = np.minimum(grams.count, most)
        right.append(np.bincount(grams.image, matching, corpus.images))
        written.append(np.maximum(0, corpus.lengths - order + 1))
    distance = np.abs(corpus.reference_lengths - corpus.lengths[corpus.owner])
    nearest = np.lexsort((corpus.reference_lengths, distance, corpus.owner))
    first = np.cumsum(corpus.reference_counts) - corpus.reference_counts
    closest = corpus.reference_lengths[nearest[first]]
    return np.stack([*right, *written, corpus.lengths, closest], axis=1).astype(float)


def _bleu(sums: Floats) -> Floats:
    """Return BLEU-1 to BLEU-4 of each row of summed statistics, (rows, 4)."""
    tiny, small = 1e-15, 1e-9  # pycocoevalcap's guards against a division by zero
    precision = (sums[:, :4] + tiny) / (sums[:, 4:8] + small)
    mean = np.cumprod(precision, axis=1) ** (1 / np.array(ORDERS))
    ratio = (sums[:, 8:9] + tiny) / (sums[:, 9:10] + small)
    brevity: Floats = np.exp(np.minimum(0, 1 - 1 / ratio))
    return mean * brevity


def _rouge(caption: list[str], references: list[list[str]]) -> float:
    from rapidfuzz.distance import LCSseq

    caption = caption or [""]  # an empty caption is one empty token there
    shared = [
        (LCSseq.similarity(caption, words or [""]), len(words or [""])) for words in references
    ]
    precision = max(length for length, _ in shared) / len(caption)
    recall = max(length / words for length, words in shared)
    if not precision or not recall:
        return 0.0
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)


class CiderD(CorpusMeanMetric):
    """Document frequencies are those of the whole corpus in intervals and slices too."""

    def __init__(self) -> None:
        super().__init__("cider_d")

    def judge(self, answers: list[str], references: list[tuple[str, ...]]) -> list[float]:
        scores: list[float] = _cider(_tokenized(answers, references, tokenize)).tolist()
        return scores


class RougeL(MeanMetric):
    def __init__(self) -> None:
        super().__init__("rouge_l")

    def score(self, answer: str, references: tuple[str, ...]) -> float:
        check_references(references)
        return _rouge(tokenize(answer), [tokenize(text) for text in references])


class Bleu(Metric):
    """Reports corpus numbers; the scores of an example are those of a corpus of it alone."""

    def __init__(self, *orders: int) -> None:
        """`orders` are the longest n-grams to report, e.g. 4 for BLEU-4."""
        self.orders = orders
        self.answers: list[str] = []
        self.references: list[tuple[str, ...]] = []
        self._counted: Floats | None = None

    def statistics(self) -> Floats:
        """Count once, until another example comes in: see `_bleu_statistics`."""
        if self._counted is None:
            self._counted = _bleu_statistics(_tokenized(self.answers, self.references, tokenize))
        return self._counted

    def update(self, example: Example, prediction: Prediction) -> dict[str, float]:
        self.answers.append(answer_of(prediction))
        self.references.append(references_of(example))
        self._counted = None
        return {}

    def compute(self) -> dict[str, float]:
        numbers = self.weighted(np.ones((1, len(self.answers))))
        return {name: float(values[0]) for name, values in numbers.items()}

    def corpus_scores(self) -> list[dict[str, float]]:
        return [self._named(row) for row in _bleu(self.statistics()).tolist()]

    def weighted(self, counts: Counts) -> dict[str, Floats]:
        scores = _bleu(counts @ self.statistics())
        scores[counts.sum(axis=1) == 0] = np.nan
        return self._named(scores.T)

    def _named(self, scores: Any) -> dict[str, Any]:
        return {f"bleu_{order}": scores[order - 1] for order in self.orders}
