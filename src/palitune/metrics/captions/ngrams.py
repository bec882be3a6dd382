"""The n-grams of captions and their references as arrays: what CIDEr-D and BLEU count."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]

NGRAM_ORDERS = (1, 2, 3, 4)
"""Lengths of n-grams that are counted."""


@dataclass(frozen=True)
class NgramTable:
    """The different n-grams of every caption, for one n, and where the two sides share one."""

    num_ngrams: int
    """How many different n-grams there are; they are numbered from 0."""
    image: IntArray
    """(predicted,) image of each n-gram of a prediction; ordered by image, then by n-gram."""
    ngram: IntArray
    """(predicted,) its number."""
    count: IntArray
    """(predicted,) how often it stands in the prediction."""
    reference: IntArray
    """(wanted,) reference, counted over all images, that each n-gram of a reference is in."""
    reference_ngram: IntArray
    """(wanted,) its number."""
    reference_count: IntArray
    """(wanted,) how often it stands in the reference."""
    is_shared: npt.NDArray[np.bool_]
    """(wanted,) whether the prediction of its image has it too."""
    match_index: IntArray
    """(wanted,) where among the predicted ones; of no meaning where it is not shared."""


class CaptionCorpus:
    """Predictions of images with their references, as words."""

    def __init__(
        self, predictions: Sequence[list[str]], references: Sequence[Sequence[list[str]]]
    ) -> None:
        """Take one prediction and at least one reference per image, in the same order."""
        self.num_images = len(predictions)
        self.references_per_image = np.array([len(texts) for texts in references], np.int64)
        self.reference_image: IntArray = np.repeat(
            np.arange(self.num_images), self.references_per_image
        )
        """(references,) image of each reference."""
        captions = [*predictions, *chain.from_iterable(references)]
        lengths = np.array([len(words) for words in captions], np.int64)
        self.lengths, self.reference_lengths = (
            lengths[: self.num_images],
            lengths[self.num_images :],
        )
        """Words of each prediction, of each reference."""
        numbers: dict[str, int] = {}
        self._word_ids = np.fromiter(
            (numbers.setdefault(word, len(numbers)) for words in captions for word in words),
            np.int64,
            count=int(lengths.sum()),
        )
        self._caption_index = np.repeat(np.arange(len(captions)), lengths)

    @cached_property
    def ngram_tables(self) -> list[NgramTable]:
        """The n-grams for n = 1 to 4."""
        words, caption = self._word_ids, self._caption_index
        number = words.copy()
        starts = np.arange(len(words))
        kinds = vocabulary = int(words.max(initial=0)) + 1
        found = []
        for order in NGRAM_ORDERS:
            if order > 1:
                starts = starts[starts + order - 1 < len(words)]
                starts = starts[caption[starts] == caption[starts + order - 1]]
                longer = number[starts] * vocabulary + words[starts + order - 1]
                different, number[starts] = np.unique(longer, return_inverse=True)
                kinds = max(1, len(different))
            found.append(self._build_table(caption[starts] * kinds + number[starts], kinds))
        return found

    def _build_table(self, occurrences: IntArray, num_ngrams: int) -> NgramTable:
        """Count the n-grams of each caption, and look up those of references in the predictions."""
        codes, counts = np.unique(occurrences, return_counts=True)
        split = np.searchsorted(codes, self.num_images * num_ngrams)
        predicted, wanted = codes[:split], codes[split:]
        reference, gram = wanted // num_ngrams - self.num_images, wanted % num_ngrams
        code = self.reference_image[reference] * num_ngrams + gram
        partner = np.searchsorted(predicted, code)
        partner[partner == len(predicted)] = 0
        shared = predicted[partner] == code if split else np.zeros(len(code), bool)
        return NgramTable(
            num_ngrams=num_ngrams,
            image=predicted // num_ngrams,
            ngram=predicted % num_ngrams,
            count=counts[:split],
            reference=reference,
            reference_ngram=gram,
            reference_count=counts[split:],
            is_shared=shared,
            match_index=partner,
        )


def sorted_unique(values: IntArray) -> IntArray:
    """Return the different values in order; by sorting, which is faster here than by hashing."""
    ordered = np.sort(values)
    different: IntArray = ordered[np.diff(ordered, prepend=-1) != 0]
    return different
