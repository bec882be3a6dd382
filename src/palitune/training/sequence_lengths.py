"""Token counts before the first step: a suffix that does not fit is refused, never cut."""

from collections.abc import Sequence

from palitune.data.collator import Collator
from palitune.errors import DataError
from palitune.records import Example

MAX_COUNTED_EXAMPLES = 100_000
"""Examples that are counted: of a longer list, evenly spaced ones; the collator sees the rest."""


def evenly_spaced(count: int, limit: int) -> list[int]:
    """At most `most` indices below `count`, evenly spaced, the first among them."""
    taken = min(count, limit)
    return [index * count // taken for index in range(taken)]


def check_lengths(
    collator: Collator, examples: Sequence[Example], max_length: int, *, all_suffixes: bool = False
) -> tuple[str, list[int]]:
    """Return a sentence about the lengths, and the indices of the shortest, middle and longest.

    `together` counts all suffixes of an example in one row, as `training.target_sampling=all` trains them.
    Raises DataError with the share of over-long examples, the longest of them and the way out.
    """
    known: dict[object, int] = {}  # an example stands there as often as an epoch visits it

    def length(example: Example) -> int:
        text = example.prefix, example.suffixes, len(example.images)
        if text not in known:
            known[text] = collator.num_tokens(example, all_suffixes=all_suffixes)
        return known[text]

    indices = evenly_spaced(len(examples), MAX_COUNTED_EXAMPLES)
    lengths = sorted((length(examples[index]), index) for index in indices)
    longest, worst = lengths[-1]
    over = sum(length > max_length for length, _ in lengths)
    if over:
        raise DataError(
            f"{examples[worst].location}: {over / len(lengths):.1%} of the examples are longer than "
            f"training.max_length {max_length} (this one has {longest} tokens, "
            f"{collator.describe_image_tokens(examples[worst])}); "
            f"set training.max_length={longest} or shorten the rows"
        )
    median = lengths[len(lengths) // 2][0]
    sentence = (
        f"lengths: {len(lengths)} examples counted, {lengths[0][0]} to {longest} tokens, "
        f"median {median}, none above {max_length}"
    )
    probes = {lengths[0][1], lengths[len(lengths) // 2][1], worst}
    return sentence, sorted(probes)
