"""The n-grams of captions and their references as arrays: what CIDEr-D and BLEU count."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

ORDERS = (1, 2, 3, 4)
"""Lengths of n-grams that are counted."""


@dataclass(frozen=True)
class Grams:
    """The different n-grams of every caption, for one n, and where the two sides share one."""

    kinds: int
    """How many different n-grams there are; they are numbered from 0."""
    image: Ints
    """(predicted,) image of each n-gram of a prediction; ordered by image, then by n-gram."""
    gram: Ints
    """(predicted,) its number."""
    count: Ints
    """(predicted,) how often it stands in the prediction."""
    reference: Ints
    """(wanted,) reference, counted over all images, that each n-gram of a reference is in."""
    wanted: Ints
    """(wanted,) its number."""
    wanted_count: Ints
    """(wanted,) how often it stands in the reference."""
    shared: npt.NDArray[np.bool_]
    """(wanted,) whether the prediction of its image has it too."""
    partner: Ints
    """(wanted,) where among the predicted ones; of no meaning where it is not shared."""


class Corpus:
    """Predictions of images with their references, as words."""

    def __init__(
        self, predictions: Sequence[list[str]], references: Sequence[Sequence[list[str]]]
    ) -> None:
        """Take one prediction and at least one reference per image, in the same order."""
        self.images = len(predictions)
        self.reference_counts = np.array([len(texts) for texts in references], np.int64)
        self.owner: Ints = np.repeat(np.arange(self.images), self.reference_counts)
        """(references,) image of each reference."""
        captions = [*predictions, *chain.from_iterable(references)]
        lengths = np.array([len(words) for words in captions], np.int64)
        self.lengths, self.reference_lengths = lengths[: self.images], lengths[self.images :]
        """Words of each prediction, of each reference."""
        numbers: dict[str, int] = {}
        self._words = np.fromiter(
            (numbers.setdefault(word, len(numbers)) for words in captions for word in words),
            np.int64,
            count=int(lengths.sum()),
        )
        self._caption = np.repeat(np.arange(len(captions)), lengths)

    @cached_property
    def grams(self) -> list[Grams]:
        """The n-grams for n = 1 to 4."""
        words, caption = self._words, self._caption
        number = words.copy()
        starts = np.arange(len(words))
        kinds = vocabulary = int(words.max(initial=0)) + 1
        found = []
        for order in ORDERS:
            if order > 1:
                starts = starts[starts + order - 1 < len(words)]
                starts = starts[caption[starts] == caption[starts + order - 1]]
                longer = number[starts] * vocabulary + words[starts + order - 1]
                different, number[starts] = np.unique(longer, return_inverse=True)
                kinds = max(1, len(different))
            found.append(self._joined(caption[starts] * kinds + number[starts], kinds))
        return found

    def _joined(self, occurrences: Ints, kinds: int) -> Grams:
        """Count the n-grams of each caption, and look up those of references in the predictions."""
        codes, counts = np.unique(occurrences, return_counts=True)
        split = np.searchsorted(codes, self.images * kinds)
        predicted, wanted = codes[:split], codes[split:]
        reference, gram = wanted // kinds - self.images, wanted % kinds
        code = self.owner[reference] * kinds + gram
        partner = np.searchsorted(predicted, code)
        partner[partner == len(predicted)] = 0
        shared = predicted[partner] == code if split else np.zeros(len(code), bool)
        return Grams(
            kinds=kinds,
            image=predicted // kinds,
            gram=predicted % kinds,
            count=counts[:split],
            reference=reference,
            wanted=gram,
            wanted_count=counts[split:],
            shared=shared,
            partner=partner,
        )


def distinct(values: Ints) -> Ints:
    """Return the different values in order; by sorting, which is faster here than by hashing."""
    ordered = np.sort(values)
    different: Ints = ordered[np.diff(ordered, prepend=-1) != 0]
    return different
