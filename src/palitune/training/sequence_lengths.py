"""Token counts of the examples before training: over-long ones are errors, never truncated."""

import itertools
from collections.abc import Iterable, Sequence

from palitune.data.collator import Collator
from palitune.errors import DataError
from palitune.records import Example

MAX_COUNTED_EXAMPLES = 100_000
"""Maximum examples to tokenize, evenly spaced; the collator checks the others in training."""

_CHUNK = 1_000
"""Examples per call of the tokenizer, whose overhead is that of several short texts."""


def evenly_spaced(count: int, limit: int) -> list[int]:
    """Return at most `limit` evenly spaced indices below `count`, starting with 0."""
    size = min(count, limit)
    return [index * count // size for index in range(size)]


def count_tokens(
    collator: Collator, examples: Iterable[Example], *, all_suffixes: bool = False
) -> list[int]:
    """Count the tokens of each example; equal texts, as of repeated components, only once.

    Args:
        collator: Collator of the training.
        examples: Training examples.
        all_suffixes: Whether all suffixes of an example form one row (target_sampling=all).
    """
    lengths: list[int] = []
    counted: dict[object, int] = {}
    remaining = iter(examples)
    while chunk := list(itertools.islice(remaining, _CHUNK)):
        keys = [(example.prefix, example.suffixes, len(example.images)) for example in chunk]
        new = {key: e for key, e in zip(keys, chunk, strict=True) if key not in counted}
        numbers = collator.count_tokens(list(new.values()), all_suffixes=all_suffixes)
        counted |= zip(new, numbers, strict=True)
        lengths += [counted[key] for key in keys]
        if len(counted) > MAX_COUNTED_EXAMPLES:
            counted.clear()
    return lengths


def check_lengths(
    collator: Collator, examples: Sequence[Example], max_length: int, *, all_suffixes: bool = False
) -> tuple[str, list[int]]:
    """Check that no example exceeds the maximum length.

    Args:
        collator: Collator of the training.
        examples: Training examples.
        max_length: Maximum tokens of an example, image tokens included.
        all_suffixes: Whether all suffixes of an example form one row (target_sampling=all).

    Returns:
        A sentence about the lengths, and the indices of the shortest, median and longest example.

    Raises:
        DataError: Examples are too long; the error names their share and the longest one.
    """
    indices = evenly_spaced(len(examples), MAX_COUNTED_EXAMPLES)
    is_whole = len(indices) == len(examples)
    counted = examples if is_whole else (examples[index] for index in indices)
    counts = count_tokens(collator, counted, all_suffixes=all_suffixes)
    lengths = sorted(zip(counts, indices, strict=True))
    longest, longest_index = lengths[-1]
    num_over = sum(length > max_length for length, _ in lengths)
    if num_over:
        raise DataError(
            f"{examples[longest_index].location}: {num_over / len(lengths):.1%} of the examples "
            f"exceed training.max_length={max_length} (this one has {longest} tokens, "
            f"{collator.describe_image_tokens(examples[longest_index])}). "
            f"Set training.max_length={longest} or shorten the rows."
        )
    median = lengths[len(lengths) // 2][0]
    sentence = (
        f"lengths: {len(lengths)} examples counted, {lengths[0][0]} to {longest} tokens, "
        f"median {median}, none above {max_length}"
    )
    probes = {lengths[0][1], lengths[len(lengths) // 2][1], longest_index}
    return sentence, sorted(probes)
