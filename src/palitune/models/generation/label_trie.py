"""Labels of a grammar as a trie of tokens."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
import torch.nn.functional as F


@dataclass(frozen=True, eq=False)
class TokenMask:
    """A large set of tokens, as a mask that is kept on every device that uses it."""

    allowed: torch.Tensor
    """(tokens,) bool; tokens beyond it are not allowed."""
    _copies: dict[tuple[torch.device, int], torch.Tensor] = field(default_factory=dict)

    def forbidden_on(self, device: torch.device, vocab_size: int) -> torch.Tensor:
        """Return where tokens are not allowed, (vocab_size,) bool, on a device."""
        key = device, vocab_size
        if key not in self._copies:
            padding = vocab_size - len(self.allowed)
            self._copies[key] = ~F.pad(self.allowed, (0, padding)).to(device)
        return self._copies[key]


TokenIndices = list[int] | range | TokenMask
"""A set of token ids."""


class LabelState(Protocol):
    """Position in the label of an object, or in the separator after it."""

    @property
    def can_end(self) -> bool:
        """Whether the answer may end here."""

    @property
    def is_complete(self) -> bool:
        """Whether the separator is complete and the next box follows."""

    @property
    def max_label_tokens(self) -> int:
        """Most tokens that the rest of the label can take."""

    def allowed_tokens(self, tokens_left: int, separator_budget: int) -> list[TokenIndices]:
        """Return the tokens that may come next.

        tokens_left: tokens that may still be generated; separator_budget: those available for the
        separator if another object follows, negative if none may.
        """

    def advance(self, token: int) -> "LabelState | None":
        """Return the state after a token; None if it is not allowed."""


class TrieNode:
    """Node of the trie; a `LabelState`."""

    def __init__(self) -> None:
        self.children: dict[int, TrieNode] = {}
        self.can_end = False
        self.is_complete = False
        self.max_tokens_to_end: int | None = None
        """Most tokens from here to a possible end of the answer; None if there is none."""
        self.max_tokens_to_box: int | None = None
        """Most tokens from here to the next box; None if there is none."""

    @property
    def max_label_tokens(self) -> int:
        return self.max_tokens_to_end or 0

    def insert(self, tokens: Sequence[int]) -> "TrieNode":
        """Add a path and return its last node."""
        node = self
        for token in tokens:
            node = node.children.setdefault(token, TrieNode())
        return node

    def finalize(self) -> None:
        """Compute the distances, after all paths were inserted."""
        children = list(self.children.values())
        for child in children:
            child.finalize()
        to_end = [c.max_tokens_to_end + 1 for c in children if c.max_tokens_to_end is not None]
        to_box = [c.max_tokens_to_box + 1 for c in children if c.max_tokens_to_box is not None]
        self.max_tokens_to_end = max(to_end, default=0 if self.can_end else None)
        self.max_tokens_to_box = max(to_box, default=0 if self.is_complete else None)

    def allowed_tokens(self, tokens_left: int, separator_budget: int) -> list[TokenIndices]:
        def fits(node: TrieNode) -> bool:
            to_box = node.max_tokens_to_box
            return node.max_tokens_to_end is not None or (
                to_box is not None and to_box <= separator_budget
            )

        return [[token for token, child in self.children.items() if fits(child)]]

    def advance(self, token: int) -> "TrieNode | None":
        return self.children.get(token)
