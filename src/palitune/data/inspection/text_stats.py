"""Token lengths of prompts and targets, and the most frequent answers."""

from array import array
from collections import Counter
from typing import Any

from palitune.codec.text_tokens import TextTokenizer
from palitune.data.inspection.object_stats import percentiles
from palitune.records import Example

PERCENTILES = {"median": 50, "p95": 95, "p99": 99, "max": 100}
NUM_TOP_ANSWERS = 20
"""Number of answers that are listed with their count."""
_TOKENIZE_BATCH_SIZE = 2000
"""Examples whose texts are tokenized in one call."""


class TokenLengthStats:
    """Token lengths of examples as the collator makes them, tokenized in batches."""

    def __init__(self, tokenizer: Any, tokens_per_image: int) -> None:
        self.tokenizer = TextTokenizer(tokenizer)
        self.tokens_per_image = tokens_per_image
        [self.num_newline_tokens] = self.tokenizer.count(["\n"])
        self.pending: list[Example] = []
        self.prefix_lengths, self.suffix_lengths = array("i"), array("i")
        self.example_lengths = array("i")
        self.longest: tuple[int, str] = (0, "")
        """Tokens and location of the longest example."""

    def add(self, example: Example) -> None:
        self.pending.append(example)
        if len(self.pending) == _TOKENIZE_BATCH_SIZE:
            self._flush()

    def summary(self, max_length: int, max_new_tokens: int) -> dict[str, Any]:
        """Return percentiles, and the fractions that exceed a limit; EOS counts as a token."""
        self._flush()
        if not self.example_lengths:
            return {}
        too_long = sum(length > max_length for length in self.example_lengths)
        unfinished = sum(length > max_new_tokens for length in self.suffix_lengths)
        return {
            "prefix": percentiles(self.prefix_lengths, PERCENTILES),
            "suffix": percentiles(self.suffix_lengths, PERCENTILES),
            "example": percentiles(self.example_lengths, PERCENTILES),
            "longest_at": self.longest[1],
            "over_max_length": too_long / len(self.example_lengths),
            "over_max_new_tokens": unfinished / len(self.suffix_lengths),
        }

    def _flush(self) -> None:
        """Count the tokens of pending examples; of several suffixes use the longest."""
        examples, self.pending = self.pending, []
        prefixes = self.tokenizer.count([example.prefix for example in examples])
        counts = iter(self.tokenizer.count([suffix for e in examples for suffix in e.suffixes]))
        for example, prefix in zip(examples, prefixes, strict=True):
            suffix = max((next(counts) for _ in example.suffixes), default=-1) + 1
            images = self.tokens_per_image * len(example.images)
            total = images + 1 + prefix + self.num_newline_tokens + suffix
            self.prefix_lengths.append(prefix)
            self.suffix_lengths.append(suffix)
            self.example_lengths.append(total)
            self.longest = max(self.longest, (total, example.location), key=lambda pair: pair[0])


class AnswerStats:
    """Counts of the first answer of each example, if the answers are texts."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.answers_per_example: Counter[int] = Counter()
        """Number of examples by their number of acceptable answers."""

    def add(self, example: Example) -> None:
        if all(isinstance(item, str) for item in example.reference) and example.reference:
            self.counts[example.suffixes[0]] += 1
            self.answers_per_example[len(example.suffixes)] += 1

    def summary(self) -> dict[str, Any]:
        """Return the most frequent answers; empty if the answers are not texts."""
        if not self.counts:
            return {}
        total = sum(self.counts.values())
        return {
            "distinct": len(self.counts),
            "most_frequent": dict(self.counts.most_common(NUM_TOP_ANSWERS)),
            "share_of_most_frequent": self.counts.most_common(1)[0][1] / total,
            "acceptable": {
                str(count): self.answers_per_example[count]
                for count in sorted(self.answers_per_example)
            },
        }
