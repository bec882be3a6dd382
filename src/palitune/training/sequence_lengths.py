"""Token counts of the examples before training: over-long ones are errors, never truncated."""

from collections.abc import Sequence

from palitune.data.collator import Collator
from palitune.errors import DataError
from palitune.records import Example

MAX_COUNTED_EXAMPLES = 100_000
"""Maximum examples to tokenize, evenly spaced; the collator checks the others in training."""


def evenly_spaced(count: int, limit: int) -> list[int]:
    """Return at most `limit` evenly spaced indices below `count`, starting with 0."""
    size = min(count, limit)
    return [index * count // size for index in range(size)]


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
    counted: dict[object, int] = {}  # upsampled components repeat their examples

    def length(example: Example) -> int:
        text = example.prefix, example.suffixes, len(example.images)
        if text not in counted:
            counted[text] = collator.num_tokens(example, all_suffixes=all_suffixes)
        return counted[text]

    indices = evenly_spaced(len(examples), MAX_COUNTED_EXAMPLES)
    lengths = sorted((length(examples[index]), index) for index in indices)
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
