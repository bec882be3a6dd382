"""CIDEr-D, BLEU and ROUGE-L of captions, as the COCO caption evaluation computes them.

Each follows pycocoevalcap, the Python 3 version of that code, on the tokens of `ptb_tokenize`.
`cider_d` is what pycocoevalcap and the tables of papers call CIDEr: n-grams of length 1 to 4
weighted by tf-idf, clipped, with a Gaussian penalty on the difference in length (sigma 6, lengths
counted in bigrams), times 10. Document frequencies come from the references under evaluation, so
scores change on a subset, and a single image scores 0. It lies in [0, 10]; papers print it times
100.
`bleu` is a corpus value: counts are summed over images before they are divided; the reference
length is the closest one, the shorter of two equally close ones.
`rouge_l` combines the best precision and the best recall over the references, which may come from
different references, with beta 1.2.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from palitune.metrics.base import (
    CorpusMeanMetric,
    CorpusMetric,
    FloatArray,
    MeanMetric,
    ResampleCounts,
    check_references,
)
from palitune.metrics.captions.ngrams import NGRAM_ORDERS, CaptionCorpus, sorted_unique
from palitune.metrics.captions.ptb_tokenizer import ptb_tokenize
from palitune.metrics.value_range import MAX_CIDER_D

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
    """Return the corpus score in [0, 10], the mean over images, and the score of each image.

    Raises ValueError if the two sides have different images or an image has no reference.
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

    Raises ValueError if the two sides have different images or an image has no reference.
    """
    statistics = _bleu_statistics(_build_corpus(predictions, references, tokenizer))
    bleu_1, bleu_2, bleu_3, bleu_4 = _bleu_scores(statistics.sum(axis=0, keepdims=True))[0].tolist()
    return bleu_1, bleu_2, bleu_3, bleu_4


def rouge_l(
    predictions: Mapping[str, str],
    references: Mapping[str, Sequence[str]],
    *,
    tokenizer: Tokenizer = ptb_tokenize,
) -> tuple[float, dict[str, float]]:
    """Return the corpus score in [0, 1], the mean over images, and the score of each image.

    Raises ValueError if the two sides have different images or an image has no reference.
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
            f"image {min(differing)!r} has only a prediction or only references; provide both for "
            "every image"
        )
    if not predictions:
        raise ValueError("no captions to score; provide at least one")
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
    """Split captions into words; as in pycocoevalcap, a no-break space splits a token in two."""

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
        expected = grams.reference_count * idf[grams.reference_ngram]
        norm = np.sqrt(np.bincount(grams.image, value**2, corpus.num_images))
        reference_norm = np.sqrt(np.bincount(grams.reference, expected**2, len(similarity)))
        shared = expected[grams.is_shared]
        clipped = np.minimum(value[grams.match_index[grams.is_shared]], shared) * shared
        product = np.bincount(grams.reference[grams.is_shared], clipped, len(similarity))
        norms = norm[corpus.reference_image] * reference_norm
        similarity += np.divide(product, norms, out=np.zeros_like(norms), where=norms > 0)
    bigrams = np.maximum(0, corpus.lengths - 1)[corpus.reference_image]
    difference = bigrams - np.maximum(0, corpus.reference_lengths - 1)
    similarity *= np.exp(-(difference**2) / (2 * CIDER_SIGMA**2)) / len(NGRAM_ORDERS)
    total = np.bincount(corpus.reference_image, similarity, corpus.num_images)
    scores: FloatArray = MAX_CIDER_D * total / corpus.references_per_image
    return scores


def _bleu_statistics(corpus: CaptionCorpus) -> FloatArray:
    """Return the statistics that BLEU sums over images, (images, 10).

    Columns: matching n-grams for n = 1 to 4, all n-grams for n = 1 to 4, words of the prediction,
    words of the closest reference.
    """
    matching, total = [], []
    for order, grams in zip(NGRAM_ORDERS, corpus.ngram_tables, strict=True):
        limit = np.zeros(len(grams.count), np.int64)
        np.maximum.at(
            limit, grams.match_index[grams.is_shared], grams.reference_count[grams.is_shared]
        )
        clipped = np.minimum(grams.count, limit)
        matching.append(np.bincount(grams.image, clipped, corpus.num_images))
        total.append(np.maximum(0, corpus.lengths - order + 1))
    distance = np.abs(corpus.reference_lengths - corpus.lengths[corpus.reference_image])
    nearest = np.lexsort((corpus.reference_lengths, distance, corpus.reference_image))
    first = np.cumsum(corpus.references_per_image) - corpus.references_per_image
    closest = corpus.reference_lengths[nearest[first]]
    return np.stack([*matching, *total, corpus.lengths, closest], axis=1).astype(float)


def _bleu_scores(statistics: FloatArray) -> FloatArray:
    """Return BLEU-1 to BLEU-4 of each row of summed statistics, (rows, 4)."""
    tiny, small = 1e-15, 1e-9  # pycocoevalcap's constants against a division by zero
    precision = (statistics[:, :4] + tiny) / (statistics[:, 4:8] + small)
    mean = np.cumprod(precision, axis=1) ** (1 / np.array(NGRAM_ORDERS))
    ratio = (statistics[:, 8:9] + tiny) / (statistics[:, 9:10] + small)
    brevity: FloatArray = np.exp(np.minimum(0, 1 - 1 / ratio))
    return mean * brevity


def _rouge_l_score(caption: list[str], references: list[list[str]]) -> float:
    from rapidfuzz.distance import LCSseq

    caption = caption or [""]  # pycocoevalcap scores an empty caption as one empty token
    shared = [
        (LCSseq.similarity(caption, words or [""]), len(words or [""])) for words in references
    ]
    precision = max(length for length, _ in shared) / len(caption)
    recall = max(length / words for length, words in shared)
    if not precision or not recall:
        return 0.0
    return (1 + ROUGE_BETA**2) * precision * recall / (recall + ROUGE_BETA**2 * precision)


class CiderD(CorpusMeanMetric):
    """Intervals and slices use the document frequencies of the whole corpus."""

    def __init__(self) -> None:
        super().__init__("cider_d")

    def corpus_statistics(
        self, answers: list[str], references: list[tuple[str, ...]]
    ) -> FloatArray:
        return _cider_scores(_tokenize_corpus(answers, references, ptb_tokenize))[:, None]


class RougeL(MeanMetric):
    def __init__(self) -> None:
        super().__init__("rouge_l")

    def score(self, answer: str, references: tuple[str, ...]) -> float:
        check_references(references)
        return _rouge_l_score(ptb_tokenize(answer), [ptb_tokenize(text) for text in references])


class Bleu(CorpusMetric):
    """BLEU of the corpus; the scores of an example are those of a corpus of one example."""

    num_statistics: ClassVar[int] = 10

    def __init__(self, *orders: int) -> None:
        """`orders` are the longest n-grams to report, e.g. 4 for BLEU-4."""
        super().__init__()
        self.orders = orders

    def corpus_statistics(
        self, answers: list[str], references: list[tuple[str, ...]]
    ) -> FloatArray:
        return _bleu_statistics(_tokenize_corpus(answers, references, ptb_tokenize))

    def per_example_scores(self) -> list[dict[str, float]]:
        return [self._by_name(row) for row in _bleu_scores(self.statistics()).tolist()]

    def compute_weighted(self, counts: ResampleCounts) -> dict[str, FloatArray]:
        scores = _bleu_scores(counts @ self.statistics())
        scores[counts.sum(axis=1) == 0] = np.nan
        return self._by_name(scores.T)

    def _by_name(self, scores: Any) -> dict[str, Any]:
        return {f"bleu_{order}": scores[order - 1] for order in self.orders}
