"""Text of an answer, piece by piece, as its tokens are generated."""

from typing import Any

from palitune.models.generation.token_bytes import is_byte_token

_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"
"""Character to which a tokenizer decodes the first bytes of another one."""


class TextStream:
    """Turns tokens into pieces of text; together they are the text of the answer.

    A character that consists of several tokens is never cut: bytes are held back until the next
    token of another kind, because they are decoded together.

    Args:
        tokenizer: Tokenizer of the model.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._sent = ""

    def add(self, token: int) -> str:
        """Add a token and return the text that is now certain; it may be empty."""
        if token == self._tokenizer.eos_token_id:
            return ""
        self._ids.append(token)
        if is_byte_token(self._tokenizer, token):
            return ""
        text = self._tokenizer.decode(
            self._ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return self.finish(text.rstrip(_INCOMPLETE))

    def finish(self, text: str) -> str:
        """Return what is missing of a text."""
        if not text.startswith(self._sent):
            return ""
        piece, self._sent = text[len(self._sent) :], text
        return piece
