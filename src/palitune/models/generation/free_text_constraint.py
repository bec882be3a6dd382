"""Words of any letters as a part of a grammar: what text spotting writes behind a box.

A word is made of ordinary tokens that show something together, if only half a letter, and never
look like a `<loc>` token, piece by piece: after `<` no `>` is allowed. The first token of the
separator ends the word.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch

TokenIndices = list[int] | slice | torch.Tensor
"""Numbers of tokens, as a tensor is indexed by them."""

MIN_FREE_TEXT_TOKENS = 8
"""Tokens that must be left for a word before it is begun. A longer one may be cut by the limit."""


@dataclass(frozen=True, eq=False)
class TokenClasses:
    """What the tokens of a vocabulary look like, (tokens,) bool each."""

    ordinary: torch.Tensor
    """Ordinary text: neither special nor added, as `<loc0000>` is."""
    visible: torch.Tensor
    """Shows something that is neither space nor `;`, whatever stands around it; bytes of a letter
    do not, for they may turn out to be bytes of a space."""
    opens_bracket: torch.Tensor
    """Holds a `<` with no `>` behind it."""
    closes_bracket: torch.Tensor
    """Holds a `>` with no `<` before it."""


@dataclass(frozen=True)
class FreeTextState:
    """A place in such words, or in the separator behind them: a `constraints.Place`."""

    tokenizer: Any
    token_classes: TokenClasses
    separator: tuple[int, ...]
    has_visible: bool = False
    """Whether a token is written that can be seen."""
    invisible_tokens: tuple[int, ...] = ()
    """The tokens that are written as long as none can."""
    bracket_is_open: bool = False
    """Whether a `<` stands without its `>`."""
    separator_position: int = 0
    """Tokens of the separator that are written."""

    @classmethod
    def initial(cls, tokenizer: Any, separator: tuple[int, ...]) -> "FreeTextState":
        return cls(tokenizer, _classify_tokens(tokenizer), separator)

    @property
    def can_end(self) -> bool:
        return self._has_word and not self.separator_position

    @property
    def _has_word(self) -> bool:
        if self.has_visible or not self.invisible_tokens:
            return self.has_visible
        text = self.tokenizer.decode(
            list(self.invisible_tokens), clean_up_tokenization_spaces=False
        )
        return bool(text.replace(";", "").strip())

    @property
    def is_complete(self) -> bool:
        return self.separator_position == len(self.separator)

    @property
    def max_label_tokens(self) -> int:
        return MIN_FREE_TEXT_TOKENS

    def allowed_tokens(self, tokens_left: int, separator_budget: int) -> list[TokenIndices]:
        if self.separator_position:
            return [[self.separator[self.separator_position]]]
        pieces: list[TokenIndices] = []
        stop = self.separator[0] if self._has_word else None
        if tokens_left > 1:
            last_chance = tokens_left == 2 and not self.has_visible
            pieces.append(
                _allowed_text_tokens(self.token_classes, self.bracket_is_open, last_chance, stop)
            )
        if stop is not None and len(self.separator) - 1 <= separator_budget:
            pieces.append([stop])
        return pieces

    def advance(self, token: int) -> "FreeTextState | None":
        if self.separator_position or (token == self.separator[0] and self._has_word):
            is_due = token == self.separator[self.separator_position]
            return replace(self, separator_position=self.separator_position + 1) if is_due else None
        if token >= len(self.token_classes.ordinary) or not self.token_classes.ordinary[token]:
            return None
        is_visible = self.has_visible or bool(self.token_classes.visible[token])
        return replace(
            self,
            has_visible=is_visible,
            invisible_tokens=() if is_visible else (*self.invisible_tokens, token),
            bracket_is_open=self.bracket_is_open or bool(self.token_classes.opens_bracket[token]),
        )


@lru_cache(maxsize=32)
def _allowed_text_tokens(
    token_classes: TokenClasses,
    bracket_is_open: bool,
    must_be_visible: bool,
    separator_token: int | None,
) -> TokenIndices:
    """Number the tokens, `stop` aside, that a word may go on by."""
    found = token_classes.ordinary.clone()
    if bracket_is_open:
        found &= ~token_classes.closes_bracket
    if must_be_visible:
        found &= token_classes.visible
    if separator_token is not None:
        found[separator_token] = False
    return found.nonzero()[:, 0]


@lru_cache(maxsize=4)
def _classify_tokens(tokenizer: Any) -> TokenClasses:
    count = len(tokenizer)
    texts = tokenizer.batch_decode(
        [[token] for token in range(count)], clean_up_tokenization_spaces=False
    )
    odd = {*tokenizer.get_added_vocab().values(), *tokenizer.all_special_ids}
    return TokenClasses(
        ordinary=torch.tensor([token not in odd for token in range(count)]),
        visible=torch.tensor([_has_visible_character(text) for text in texts]),
        opens_bracket=torch.tensor([text.rfind("<") > text.rfind(">") for text in texts]),
        closes_bracket=torch.tensor([">" in text.partition("<")[0] for text in texts]),
    )


def _has_visible_character(text: str) -> bool:
    return any(not letter.isspace() and letter not in ";\ufffd" for letter in text)
