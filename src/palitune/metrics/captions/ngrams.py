"""N-gram counts of captions and their references as arrays, for CIDEr-D and BLEU."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]

NGRAM_ORDERS = (1, 2, 3, 4)
"""Lengths of the counted n-grams."""


@dataclass(frozen=True)
class NgramTable:
    """Distinct n-grams of every caption for one n, and which of them both sides share."""

    num_ngrams: int
    """Number of distinct n-grams; their ids count from 0."""
    image: IntArray
    """(predicted,) image of each n-gram of a prediction; ordered by image, then by n-gram."""
    ngram: IntArray
    """(predicted,) its id."""
    count: IntArray
    """(predicted,) how often it occurs in the prediction."""
    reference: IntArray
    """(expected,) reference, counted over all images, of each n-gram of a reference."""
    reference_ngram: IntArray
    """(expected,) its id."""
    reference_count: IntArray
    """(expected,) how often it occurs in the reference."""
    is_shared: npt.NDArray[np.bool_]
    """(expected,) whether the prediction of its image contains it."""
    match_index: IntArray
    """(expected,) its index among the predicted n-grams; undefined if it is not shared."""


class CaptionCorpus:
    """Words of the predictions of images and of their references."""

    def __init__(
        self, predictions: Sequence[list[str]], references: Sequence[Sequence[list[str]]]
    ) -> None:
        """Store one prediction and at least one reference per image, in the same order."""
        self.num_images = len(predictions)
        self.references_per_image = np.array([len(texts) for texts in references], np.int64)
        self.reference_image: IntArray = np.repeat(
            np.arange(self.num_images), self.references_per_image
        )
        """(references,) image of each reference."""
        captions = [*predictions, *chain.from_iterable(references)]
        lengths = np.array([len(words) for words in captions], np.int64)
        self.lengths = lengths[: self.num_images]
        """Number of words of each prediction."""
        self.reference_lengths = lengths[self.num_images :]
        """Number of words of each reference."""
        ids: dict[str, int] = {}
        self._word_ids = np.fromiter(
            (ids.setdefault(word, len(ids)) for words in captions for word in words),
            np.int64,
            count=int(lengths.sum()),
        )
        self._caption_index = np.repeat(np.arange(len(captions)), lengths)

    @cached_property
    def ngram_tables(self) -> list[NgramTable]:
        """Return the n-grams for n = 1 to 4."""
        words, caption = self._word_ids, self._caption_index
        ngram_ids = words.copy()
        starts = np.arange(len(words))
        num_ngrams = vocabulary_size = int(words.max(initial=0)) + 1
        tables = []
        for order in NGRAM_ORDERS:
            if order > 1:
                starts = starts[starts + order - 1 < len(words)]
                starts = starts[caption[starts] == caption[starts + order - 1]]
                longer = ngram_ids[starts] * vocabulary_size + words[starts + order - 1]
                distinct, ngram_ids[starts] = np.unique(longer, return_inverse=True)
                num_ngrams = max(1, len(distinct))
            tables.append(
                self._build_table(caption[starts] * num_ngrams + ngram_ids[starts], num_ngrams)
            )
        return tables

    def _build_table(self, occurrences: IntArray, num_ngrams: int) -> NgramTable:
        """Count the n-grams of each caption and look up those of references in the predictions."""
        codes, counts = np.unique(occurrences, return_counts=True)
        split = np.searchsorted(codes, self.num_images * num_ngrams)
        predicted, expected = codes[:split], codes[split:]
        reference, ngram = expected // num_ngrams - self.num_images, expected % num_ngrams
        code = self.reference_image[reference] * num_ngrams + ngram
        match_index = np.searchsorted(predicted, code)
        match_index[match_index == len(predicted)] = 0
        is_shared = predicted[match_index] == code if split else np.zeros(len(code), bool)
        return NgramTable(
            num_ngrams=num_ngrams,
            image=predicted // num_ngrams,
            ngram=predicted % num_ngrams,
            count=counts[:split],
            reference=reference,
            reference_ngram=ngram,
            reference_count=counts[split:],
            is_shared=is_shared,
            match_index=match_index,
        )


def sorted_unique(values: IntArray) -> IntArray:
    """Return the distinct non-negative values in order; faster here than np.unique."""
    ordered = np.sort(values)
    distinct: IntArray = ordered[np.diff(ordered, prepend=-1) != 0]
    return distinct
