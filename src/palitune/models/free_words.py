"""Words of any letters as a part of a grammar: what text spotting writes behind a box.

A word is made of ordinary tokens that show something together, if only half a letter, and never
look like a `<loc>` token, piece by piece: after `<` no `>` is allowed. The first token of the
separator ends the word.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch

Piece = list[int] | slice | torch.Tensor
"""Numbers of tokens, as a tensor is indexed by them."""

ROOM = 8
"""Tokens that must be left for a word before it is begun. A longer one may be cut by the limit."""


@dataclass(frozen=True, eq=False)
class Letters:
    """What the tokens of a vocabulary look like, (tokens,) bool each."""

    plain: torch.Tensor
    """Ordinary text: neither special nor added, as `<loc0000>` is."""
    visible: torch.Tensor
    """Shows something that is neither space nor `;`, whatever stands around it; bytes of a letter
    do not, for they may turn out to be bytes of a space."""
    opens: torch.Tensor
    """Holds a `<` with no `>` behind it."""
    closes: torch.Tensor
    """Holds a `>` with no `<` before it."""


@dataclass(frozen=True)
class Words:
    """A place in such words, or in the separator behind them: a `palitune.models.grammar.Place`."""

    tokenizer: Any
    letters: Letters
    separator: tuple[int, ...]
    is_visible: bool = False
    """Whether a token is written that can be seen."""
    others: tuple[int, ...] = ()
    """The tokens that are written as long as none can."""
    is_open: bool = False
    """Whether a `<` stands without its `>`."""
    separated: int = 0
    """Tokens of the separator that are written."""

    @classmethod
    def begin(cls, tokenizer: Any, separator: tuple[int, ...]) -> "Words":
        return cls(tokenizer, _letters(tokenizer), separator)

    @property
    def ends(self) -> bool:
        return self._is_word and not self.separated

    @property
    def _is_word(self) -> bool:
        if self.is_visible or not self.others:
            return self.is_visible
        text = self.tokenizer.decode(list(self.others), clean_up_tokenization_spaces=False)
        return bool(text.replace(";", "").strip())

    @property
    def is_done(self) -> bool:
        return self.separated == len(self.separator)

    @property
    def longest(self) -> int:
        return ROOM

    def pieces(self, left: int, spare: int) -> list[Piece]:
        if self.separated:
            return [[self.separator[self.separated]]]
        pieces: list[Piece] = []
        stop = self.separator[0] if self._is_word else None
        if left > 1:
            last_chance = left == 2 and not self.is_visible
            pieces.append(_allowed(self.letters, self.is_open, last_chance, stop))
        if stop is not None and len(self.separator) - 1 <= spare:
            pieces.append([stop])
        return pieces

    def after(self, token: int) -> "Words | None":
        if self.separated or (token == self.separator[0] and self._is_word):
            is_due = token == self.separator[self.separated]
            return replace(self, separated=self.separated + 1) if is_due else None
        if token >= len(self.letters.plain) or not self.letters.plain[token]:
            return None
        is_visible = self.is_visible or bool(self.letters.visible[token])
        return replace(
            self,
            is_visible=is_visible,
            others=() if is_visible else (*self.others, token),
            is_open=self.is_open or bool(self.letters.opens[token]),
        )


@lru_cache(maxsize=32)
def _allowed(letters: Letters, is_open: bool, must_be_visible: bool, stop: int | None) -> Piece:
    """Number the tokens, `stop` aside, that a word may go on by."""
    found = letters.plain.clone()
    if is_open:
        found &= ~letters.closes
    if must_be_visible:
        found &= letters.visible
    if stop is not None:
        found[stop] = False
    return found.nonzero()[:, 0]


@lru_cache(maxsize=4)
def _letters(tokenizer: Any) -> Letters:
    count = len(tokenizer)
    texts = tokenizer.batch_decode(
        [[token] for token in range(count)], clean_up_tokenization_spaces=False
    )
    odd = {*tokenizer.get_added_vocab().values(), *tokenizer.all_special_ids}
    return Letters(
        plain=torch.tensor([token not in odd for token in range(count)]),
        visible=torch.tensor([_is_visible(text) for text in texts]),
        opens=torch.tensor([text.rfind("<") > text.rfind(">") for text in texts]),
        closes=torch.tensor([">" in text.partition("<")[0] for text in texts]),
    )


def _is_visible(text: str) -> bool:
    return any(not letter.isspace() and letter not in ";\ufffd" for letter in text)
