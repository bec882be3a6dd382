"""Bytes of every token of a vocabulary, and a trie of tokens by their bytes."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")
_PRINTABLE = (*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100))
"""Bytes that a byte-level tokenizer writes as the character with the same number."""


@lru_cache(maxsize=4)
def token_bytes(tokenizer: Any) -> tuple[bytes | None, ...]:
    """Return the bytes that each token stands for; None for special and added tokens.

    The tokenizer is SentencePiece's, with `▁` for a space and `<0x0A>` for a byte, or byte-level,
    which writes every byte as a character (GPT-2).
    """
    special = {*tokenizer.get_added_vocab().values(), *tokenizer.all_special_ids}
    pieces = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    to_bytes = _byte_level_bytes if _is_byte_level(tokenizer) else _sentencepiece_bytes
    return tuple(
        None if piece is None or token in special else to_bytes(piece)
        for token, piece in enumerate(pieces)
    )


def is_byte_token(tokenizer: Any, token: int) -> bool:
    """Return whether a token is one byte, which SentencePiece writes as `<0x0A>`."""
    return _BYTE_TOKEN.fullmatch(tokenizer.convert_ids_to_tokens(token) or "") is not None


def _is_byte_level(tokenizer: Any) -> bool:
    from tokenizers import decoders

    return isinstance(tokenizer.backend_tokenizer.decoder, decoders.ByteLevel)


def _sentencepiece_bytes(piece: str) -> bytes:
    if match := _BYTE_TOKEN.fullmatch(piece):
        return bytes.fromhex(match[1])
    return piece.replace("▁", " ").encode("utf-8", "replace")


def _byte_level_bytes(piece: str) -> bytes:
    return bytes(_byte_of_character()[character] for character in piece)


@lru_cache(maxsize=1)
def _byte_of_character() -> dict[str, int]:
    """Return the byte of each character: the others are numbered from 256, in order."""
    others = (byte for byte in range(256) if byte not in _PRINTABLE)
    characters = {chr(256 + number): byte for number, byte in enumerate(others)}
    return characters | {chr(byte): byte for byte in _PRINTABLE}


@dataclass
class ByteTrie:
    """Tokens by their bytes."""

    children: "dict[int, ByteTrie]" = field(default_factory=dict)
    tokens: list[int] = field(default_factory=list)
    """Tokens that end here."""

    @classmethod
    def build(cls, tokens: Iterable[tuple[int, bytes]]) -> "ByteTrie":
        """Return the trie of (token, bytes)."""
        root = cls()
        for token, content in tokens:
            node = root
            for byte in content:
                node = node.children.setdefault(byte, cls())
            node.tokens.append(token)
        return root
