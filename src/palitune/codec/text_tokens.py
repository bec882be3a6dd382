"""Tokens of the user's text, in which control tokens are plain characters.

A tokenizer file replaces `<eos>` or `<image>` by its control id wherever it occurs, also in a
question or an answer. SentencePiece, and so big_vision, does not: there the text is `<`, `eos`,
`>`. Otherwise a target would teach the model to stop, and an image token in a question would need
an image. `<loc....>` and `<seg...>` stay tokens.
"""

import json
import re
from collections.abc import Sequence
from functools import cached_property
from itertools import chain
from typing import Any

CONTROL_WORDS = ("<image>", "<eos>", "<pad>", "<bos>", "<unk>", "<mask>")
"""Control tokens of PaliGemma's vocabulary, whether the tokenizer marks them as special or not."""
_OBJECT_TOKEN = re.compile(r"<loc\d{4}>|<seg\d{3}>")
_NONCHARACTER = "\ufdd0"
"""A code point that Unicode reserves for internal use; no text has it."""


class TextTokenizer:
    """Tokenizes texts without special tokens around or inside them."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        words = {*CONTROL_WORDS, *map(str, tokenizer.all_special_tokens)}
        self._control_words = sorted(word for word in words if not _OBJECT_TOKEN.fullmatch(word))
        self._pattern = re.compile("|".join(map(re.escape, self._control_words)))

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokenize texts separately, in one call: many take little longer than one."""
        if not texts:
            return []
        ids: list[list[int]] = self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        for index, text in enumerate(texts):
            if self.has_control_words(text):
                ids[index] = self._plain_tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def count(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text, in less time than `encode`.

        A tokenizer splits a text at object tokens first, so that the parts between them, such as
        labels, can be tokenized once for all texts.
        """
        if not self._splits_at_object_tokens:
            return [len(ids) for ids in self.encode(texts)]
        split_texts = [_OBJECT_TOKEN.split(text) for text in texts]
        parts = list({part for parts in split_texts for part in parts})
        count = dict(zip(parts, map(len, self.encode(parts)), strict=True))
        return [len(parts) - 1 + sum(count[part] for part in parts) for parts in split_texts]

    @cached_property
    def _splits_at_object_tokens(self) -> bool:
        """Whether object tokens are single tokens that do not change the text around them."""
        parts = ["a", "<loc0000>", " boat ; ", "<loc1023>", "b ", "<seg000>", "<seg127>", " a"]
        whole, *separate = self.encode(["".join(parts), *parts])
        are_single = all(
            len(ids) == 1 for part, ids in zip(parts, separate, strict=True) if part[0] == "<"
        )
        return are_single and whole == list(chain.from_iterable(separate))

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Return the character span [start, end) of each token of a text."""
        if self.has_control_words(text):
            encoded = self._plain_tokenizer.encode(text, add_special_tokens=False)
            return list(encoded.offsets)
        return list(
            self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)[
                "offset_mapping"
            ]
        )

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of tokens."""
        text: str = self.tokenizer.decode(list(token_ids), clean_up_tokenization_spaces=False)
        return text

    def has_control_words(self, text: str) -> bool:
        """Return whether a text has a word that is a control token of the vocabulary."""
        return self._pattern.search(text) is not None

    @cached_property
    def _plain_tokenizer(self) -> Any:
        """The same tokenizer without its control tokens; made for the first text that has one.

        Control tokens outside the model's vocabulary are renamed, because the ids of added tokens
        follow from their order in the file.
        """
        from tokenizers import Tokenizer

        content = json.loads(self.tokenizer.backend_tokenizer.to_str())
        vocabulary = content["model"]["vocab"]
        words = set(vocabulary) if isinstance(vocabulary, dict) else {w for w, _ in vocabulary}
        added = []
        for token in content["added_tokens"]:
            if token["content"] in self._control_words:
                if token["content"] in words:
                    continue
                token = token | {"content": _NONCHARACTER + token["content"][::-1]}
            added.append(token)
        content |= {
            "added_tokens": added,
            "post_processor": None,  # it may name tokens that are gone
            "padding": None,
            "truncation": None,
        }
        return Tokenizer.from_str(json.dumps(content))


class RoundTripCheck:
    """Finds texts that a tokenizer does not give back, such as ones with U+2581.

    Characters are checked once each, between two letters. Only a text with a character that changed
    or with white space at an end is tokenized.
    """

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self.tokenizer = tokenizer
        self._known: set[str] = set()
        self._changing: set[str] = set()

    def decoded_if_changed(self, text: str) -> str | None:
        """Return the text that the tokens decode to if it differs, else None."""
        characters = set(text)
        for character in characters - self._known:
            probe = f"a{character}a"
            if self._round_trip(probe) != probe:
                self._changing.add(character)
        self._known |= characters
        if text == text.strip() and self._changing.isdisjoint(characters):
            return None
        decoded = self._round_trip(text)
        return None if decoded == text else decoded

    def _round_trip(self, text: str) -> str:
        return self.tokenizer.decode(self.tokenizer.encode([text])[0])
