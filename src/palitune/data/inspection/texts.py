"""How long prompts and targets are in tokens, and which answers there are."""

from array import array
from collections import Counter
from typing import Any

from palitune.data.inspection.objects import percentiles
from palitune.examples import Example

PERCENTILES = {"median": 50, "p95": 95, "p99": 99, "max": 100}
MOST_FREQUENT = 20
"""Answers that are named with their number."""
_AT_ONCE = 2000
"""Examples whose texts are tokenized together."""


class Lengths:
    """Count tokens as the collator lays them out, many texts at a time."""

    def __init__(self, tokenizer: Any, tokens_per_image: int) -> None:
        self.tokenizer = tokenizer
        self.tokens_per_image = tokens_per_image
        self.newline = self._count(["\n"])[0]
        self.prefixes: dict[str, int] = {}
        """Tokens by prefix: many examples share one."""
        self.waiting: list[Example] = []
        self.prefix, self.suffix, self.whole = array("i"), array("i"), array("i")
        self.longest: tuple[int, str] = (0, "")
        """Tokens and place of the longest example."""

    def add(self, example: Example) -> None:
        self.waiting.append(example)
        if len(self.waiting) == _AT_ONCE:
            self._take()

    def summary(self, max_length: int, max_new_tokens: int) -> dict[str, Any]:
        """Return percentiles, and the shares that exceed a limit; EOS counts as a token."""
        self._take()
        if not self.whole:
            return {}
        too_long = sum(length > max_length for length in self.whole)
        unfinished = sum(length > max_new_tokens for length in self.suffix)
        return {
            "prefix": percentiles(self.prefix, PERCENTILES),
            "suffix": percentiles(self.suffix, PERCENTILES),
            "example": percentiles(self.whole, PERCENTILES),
            "longest_at": self.longest[1],
            "over_max_length": too_long / len(self.whole),
            "over_max_new_tokens": unfinished / len(self.suffix),
        }

    def _take(self) -> None:
        """Count what waits: every prefix once, of several suffixes the longest."""
        examples, self.waiting = self.waiting, []
        fresh = list({example.prefix for example in examples} - self.prefixes.keys())
        self.prefixes |= dict(zip(fresh, self._count(fresh), strict=True))
        counts = iter(self._count([suffix for e in examples for suffix in e.suffixes]))
        for example in examples:
            prefix = self.prefixes[example.prefix]
            suffix = max(next(counts) for _ in example.suffixes) + 1
            images = self.tokens_per_image * len(example.images)
            whole = images + 1 + prefix + self.newline + suffix
            for lengths, length in (
                (self.prefix, prefix),
                (self.suffix, suffix),
                (self.whole, whole),
            ):
                lengths.append(length)
            self.longest = max(self.longest, (whole, example.place), key=lambda pair: pair[0])

    def _count(self, texts: list[str]) -> list[int]:
        if not texts:
            return []
        ids = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        return [len(one) for one in ids]


class Answers:
    """Count the answers of tasks whose answers are texts: the first one of each example."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.acceptable: Counter[int] = Counter()
        """Examples by how many acceptable answers they have."""

    def add(self, example: Example) -> None:
        if all(isinstance(item, str) for item in example.reference) and example.reference:
            self.counts[example.suffixes[0]] += 1
            self.acceptable[len(example.suffixes)] += 1

    def summary(self) -> dict[str, Any]:
        """Return the most frequent answers; nothing where answers are no texts."""
        if not self.counts:
            return {}
        total = sum(self.counts.values())
        return {
            "distinct": len(self.counts),
            "most_frequent": dict(self.counts.most_common(MOST_FREQUENT)),
            "share_of_most_frequent": self.counts.most_common(1)[0][1] / total,
            "acceptable": {str(count): self.acceptable[count] for count in sorted(self.acceptable)},
        }
