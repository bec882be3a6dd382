"""Free text as the label of a grammar, for text spotting.

A text consists of ordinary tokens, has at least one visible character, and cannot spell a `<loc>`
token: no `>` is allowed after `<`. The first token of the separator ends the text.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch

from palitune.models.generation.label_trie import TokenIndices, TokenMask

MIN_FREE_TEXT_TOKENS = 8
"""Tokens that must be left to begin a text. A longer text may be truncated by the limit."""


@dataclass(frozen=True, eq=False)
class TokenClasses:
    """Properties of the tokens of a vocabulary, (tokens,) bool each."""

    ordinary: torch.Tensor
    """Neither a special nor an added token, such as `<loc0000>`."""
    visible: torch.Tensor
    """Always shows a character other than spaces and `;`. Single bytes of a character do not count,
    because they may be bytes of a space."""
    opens_bracket: torch.Tensor
    """Contains a `<` without a `>` after it."""
    closes_bracket: torch.Tensor
    """Contains a `>` without a `<` before it."""


@dataclass(frozen=True)
class FreeTextState:
    """Position in a text, or in the separator after it; a `LabelState`."""

    tokenizer: Any
    token_classes: TokenClasses
    separator: tuple[int, ...]
    has_visible: bool = False
    """Whether the text contains a visible token."""
    invisible_tokens: tuple[int, ...] = ()
    """Tokens of the text until one is visible."""
    bracket_is_open: bool = False
    """Whether a `<` has no `>` yet."""
    separator_position: int = 0
    """Number of generated tokens of the separator."""

    @classmethod
    def initial(cls, tokenizer: Any, separator: tuple[int, ...]) -> "FreeTextState":
        return cls(tokenizer, _classify_tokens(tokenizer), separator)

    @property
    def can_end(self) -> bool:
        return self._has_text and not self.separator_position

    @property
    def _has_text(self) -> bool:
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
        allowed: list[TokenIndices] = []
        stop = self.separator[0] if self._has_text else None
        if tokens_left > 1:
            must_be_visible = tokens_left == 2 and not self.has_visible
            allowed.append(
                _allowed_text_tokens(
                    self.token_classes, self.bracket_is_open, must_be_visible, stop
                )
            )
        if stop is not None and len(self.separator) - 1 <= separator_budget:
            allowed.append([stop])
        return allowed

    def advance(self, token: int) -> "FreeTextState | None":
        if self.separator_position or (token == self.separator[0] and self._has_text):
            if token != self.separator[self.separator_position]:
                return None
            return replace(self, separator_position=self.separator_position + 1)
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
) -> TokenMask:
    """Return the tokens that may continue a text, without `separator_token`."""
    allowed = token_classes.ordinary.clone()
    if bracket_is_open:
        allowed &= ~token_classes.closes_bracket
    if must_be_visible:
        allowed &= token_classes.visible
    if separator_token is not None:
        allowed[separator_token] = False
    return TokenMask(allowed)


@lru_cache(maxsize=4)
def _classify_tokens(tokenizer: Any) -> TokenClasses:
    count = len(tokenizer)
    texts = tokenizer.batch_decode(
        [[token] for token in range(count)], clean_up_tokenization_spaces=False
    )
    special_ids = {*tokenizer.get_added_vocab().values(), *tokenizer.all_special_ids}
    return TokenClasses(
        ordinary=torch.tensor([token not in special_ids for token in range(count)]),
        visible=torch.tensor([_has_visible_character(text) for text in texts]),
        opens_bracket=torch.tensor([text.rfind("<") > text.rfind(">") for text in texts]),
        closes_bracket=torch.tensor([">" in text.partition("<")[0] for text in texts]),
    )


def _has_visible_character(text: str) -> bool:
    return any(not letter.isspace() and letter not in ";\ufffd" for letter in text)
