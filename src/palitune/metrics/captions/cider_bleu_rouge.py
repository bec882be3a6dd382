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

from palitune.metrics import MAX_CIDER_D
from palitune.metrics.base import (
    CorpusMeanMetric,
    FloatArray,
    MeanMetric,
    Metric,
    ResampleCounts,
    answer_text,
    check_references,
    reference_texts,
)
from palitune.metrics.captions.ngrams import NGRAM_ORDERS, CaptionCorpus, sorted_unique
from palitune.metrics.captions.ptb_tokenizer import ptb_tokenize
from palitune.records import Example, Prediction

Tokenizer = Callable[[str], list[str]]

CIDER_SIGMA = 6.0
"""Width of CIDEr-D's penalty on a difference in length, in bigrams."""
ROUGE_BETA = 1.2
"""Weight of recall in ROUGE-L."""


def cider_d(
    predictions: Mapping[str, str],
    references: Mapping[str, Sequence[str]],
    *,
    tokenizer: Tokenizer = ptb_tokenize,
) -> tuple[float, dict[str, float]]:
    """Return the corpus score in [0, 10], the mean over images, and that of each image.

    Raises ValueError where the two do not name the same images, or one has no reference.
    """
    scores = _cider_scores(_build_corpus(predictions, references, tokenizer))
    return float(scores.mean()), dict(zip(predictions, scores.tolist(), strict=True))


def bleu(
    predictions: Mapping[str, str],
    references: Mapping[str, Sequence[str]],
    *,
    tokenizer: Tokenizer = ptb_tokenize,
) -> tuple[float, float, float, float]:
    """Return BLEU-1 to BLEU-4 of the corpus, in [0, 1].

    Raises ValueError where the two do not name the same images, or one has no reference.
    """
    sums = _bleu_statistics(_build_corpus(predictions, references, tokenizer)).sum(
        axis=0, keepdims=True
    )
    one, two, three, four = _bleu_scores(sums)[0].tolist()
    return one, two, three, four


def rouge_l(
    predictions: Mapping[str, str],
    references: Mapping[str, Sequence[str]],
    *,
    tokenizer: Tokenizer = ptb_tokenize,
) -> tuple[float, dict[str, float]]:
    """Return the corpus score in [0, 1], the mean over images, and that of each image.

    Raises ValueError where the two do not name the same images, or one has no reference.
    """
    _check_inputs(predictions, references)
    scores = {
        image: _rouge_l_score(tokenizer(caption), [tokenizer(text) for text in references[image]])
        for image, caption in predictions.items()
    }
    return sum(scores.values()) / len(scores), scores


def _check_inputs(predictions: Mapping[str, str], references: Mapping[str, Sequence[str]]) -> None:
    if differing := predictions.keys() ^ references.keys():
        raise ValueError(
            f"image {min(differing)!r} is on one side only; give a prediction and references of "
            "the same images"
        )
    if not predictions:
        raise ValueError("no captions to judge; give at least one")
    for texts in references.values():
        check_references(texts)


def _build_corpus(
    predictions: Mapping[str, str], references: Mapping[str, Sequence[str]], tokenizer: Tokenizer
) -> CaptionCorpus:
    _check_inputs(predictions, references)
    ordered = [references[image] for image in predictions]
    return _tokenize_corpus(list(predictions.values()), ordered, tokenizer)


def _tokenize_corpus(
    captions: Sequence[str], references: Sequence[Sequence[str]], tokenizer: Tokenizer
) -> CaptionCorpus:
    """Cut captions into words: a token with a no-break space inside counts as two, as there."""

    def words(text: str) -> list[str]:
        return " ".join(tokenizer(text)).split()

    return CaptionCorpus(
        [words(text) for text in captions], [[words(t) for t in r] for r in references]
    )


def _cider_scores(corpus: CaptionCorpus) -> FloatArray:
    """Return the CIDEr-D of each image, (images,)."""
    similarity = np.zeros(len(corpus.reference_image))
    for grams in corpus.ngram_tables:
        in_images = sorted_unique(
            corpus.reference_image[grams.reference] * grams.num_ngrams + grams.reference_ngram
        )
        frequency = np.bincount(in_images % grams.num_ngrams, minlength=grams.num_ngrams)
        idf = np.log(corpus.num_images) - np.log(np.maximum(1, frequency))
        value = grams.count * idf[grams.ngram]
        wanted = grams.reference_count * idf[grams.reference_ngram]
        norm = np.sqrt(np.bincount(grams.image, value**2, corpus.num_images))
        wanted_norm = np.sqrt(np.bincount(grams.reference, wanted**2, len(corpus.reference_image)))
        both = wanted[grams.is_shared]
        clipped = np.minimum(value[grams.match_index[grams.is_shared]], both) * both
        product = np.bincount(
            grams.reference[grams.is_shared], clipped, len(corpus.reference_image)
        )
        norms = norm[corpus.reference_image] * wanted_norm
        similarity += np.divide(product, norms, out=np.zeros_like(norms), where=norms > 0)
    bigrams = np.maximum(0, corpus.lengths - 1)[corpus.reference_image]
    difference = bigrams - np.maximum(0, corpus.reference_lengths - 1)
    similarity *= np.exp(-(difference**2) / (2 * CIDER_SIGMA**2)) / len(NGRAM_ORDERS)
    total = np.bincount(corpus.reference_image, similarity, corpus.num_images)
    scores: FloatArray = MAX_CIDER_D * total / corpus.references_per_image
    return scores


def _bleu_statistics(corpus: CaptionCorpus) -> FloatArray:
    """Return what BLEU sums over images, (images, 10).

    Columns: n-grams that match for n = 1 to 4, n-grams there are, words, words of the reference.
    """
    right, written = [], []
    for order, grams in zip(NGRAM_ORDERS, corpus.ngram_tables, strict=True):
        most = np.zeros(len(grams.count), np.int64)
        np.maximum.at(
            most, grams.match_index[grams.is_shared], grams.reference_count[grams.is_shared]
        )
        matching = np.minimum(grams.count, most)
        right.append(np.bincount(grams.image, matching, corpus.num_images))
        written.append(np.maximum(0, corpus.lengths - order + 1))
    distance = np.abs(corpus.reference_lengths - corpus.lengths[corpus.reference_image])
    nearest = np.lexsort((corpus.reference_lengths, distance, corpus.reference_image))
    first = np.cumsum(corpus.references_per_image) - corpus.references_per_image
    closest = corpus.reference_lengths[nearest[first]]
    return np.stack([*right, *written, corpus.lengths, closest], axis=1).astype(float)


def _bleu_scores(statistics: FloatArray) -> FloatArray:
    """Return BLEU-1 to BLEU-4 of each row of summed statistics, (rows, 4)."""
    tiny, small = 1e-15, 1e-9  # pycocoevalcap's guards against a division by zero
    precision = (statistics[:, :4] + tiny) / (statistics[:, 4:8] + small)
    mean = np.cumprod(precision, axis=1) ** (1 / np.array(NGRAM_ORDERS))
    ratio = (statistics[:, 8:9] + tiny) / (statistics[:, 9:10] + small)
    brevity: FloatArray = np.exp(np.minimum(0, 1 - 1 / ratio))
    return mean * brevity


def _rouge_l_score(caption: list[str], references: list[list[str]]) -> float:
    from rapidfuzz.distance import LCSseq

    caption = caption or [""]  # an empty caption is one empty token there
    shared = [
        (LCSseq.similarity(caption, words or [""]), len(words or [""])) for words in references
    ]
    precision = max(length for length, _ in shared) / len(caption)
    recall = max(length / words for length, words in shared)
    if not precision or not recall:
        return 0.0
    return (1 + ROUGE_BETA**2) * precision * recall / (recall + ROUGE_BETA**2 * precision)


class CiderD(CorpusMeanMetric):
    """Document frequencies are those of the whole corpus in intervals and slices too."""

    def __init__(self) -> None:
        super().__init__("cider_d")

    def score_corpus(self, answers: list[str], references: list[tuple[str, ...]]) -> list[float]:
        scores: list[float] = _cider_scores(
            _tokenize_corpus(answers, references, ptb_tokenize)
        ).tolist()
        return scores


class RougeL(MeanMetric):
    def __init__(self) -> None:
        super().__init__("rouge_l")

    def score(self, answer: str, references: tuple[str, ...]) -> float:
        check_references(references)
        return _rouge_l_score(ptb_tokenize(answer), [ptb_tokenize(text) for text in references])


class Bleu(Metric):
    """Reports corpus numbers; the scores of an example are those of a corpus of it alone."""

    def __init__(self, *orders: int) -> None:
        """`orders` are the longest n-grams to report, e.g. 4 for BLEU-4."""
        self.orders = orders
        self.answers: list[str] = []
        self.references: list[tuple[str, ...]] = []
        self._cached_statistics: FloatArray | None = None

    def statistics(self) -> FloatArray:
        """Count once, until another example comes in: see `_bleu_statistics`."""
        if self._cached_statistics is None:
            self._cached_statistics = _bleu_statistics(
                _tokenize_corpus(self.answers, self.references, ptb_tokenize)
            )
        return self._cached_statistics

    def update(self, example: Example, prediction: Prediction) -> dict[str, float]:
        self.answers.append(answer_text(prediction))
        self.references.append(reference_texts(example))
        self._cached_statistics = None
        return {}

    def compute(self) -> dict[str, float]:
        numbers = self.compute_weighted(np.ones((1, len(self.answers))))
        return {name: float(values[0]) for name, values in numbers.items()}

    def per_example_scores(self) -> list[dict[str, float]]:
        return [self._by_name(row) for row in _bleu_scores(self.statistics()).tolist()]

    def compute_weighted(self, counts: ResampleCounts) -> dict[str, FloatArray]:
        scores = _bleu_scores(counts @ self.statistics())
        scores[counts.sum(axis=1) == 0] = np.nan
        return self._by_name(scores.T)

    def _by_name(self, scores: Any) -> dict[str, Any]:
        return {f"bleu_{order}": scores[order - 1] for order in self.orders}
