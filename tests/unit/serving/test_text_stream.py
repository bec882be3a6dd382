"""Pieces of a streamed answer are its text, and no character is cut."""

import random

import pytest
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from palitune.models.config import Device, Tiny
from palitune.models.loading import load_processor
from palitune.serving.text_stream import TextStream

WORDS = ("<pad>", "<eos>", "a", "\u2581b", "\u2581", "\u20ac", "\n", "<loc0001>")


@pytest.fixture(scope="module")
def with_bytes() -> PreTrainedTokenizerFast:
    """A tokenizer that writes unknown characters as bytes, as those of PaliGemma do."""
    pieces = [*WORDS, *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer = Tokenizer(
        models.BPE({piece: n for n, piece in enumerate(pieces)}, [], byte_fallback=True)
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>")


def pieces_and_text(tokenizer: object, ids: list[int]) -> tuple[list[str], str]:
    stream = TextStream(tokenizer)
    text = tokenizer.decode(  # type: ignore[attr-defined]
        ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    return [*(stream.add(token) for token in ids), stream.finish(text)], text


def test_pieces_of_any_tokens_are_the_text(with_bytes: PreTrainedTokenizerFast) -> None:
    rng = random.Random(0)
    tiny = load_processor(Tiny(device=Device.cpu)).tokenizer
    for tokenizer, size in ((with_bytes, len(with_bytes)), (tiny, len(tiny))):
        for _ in range(300):
            ids = [rng.randrange(2, size) for _ in range(rng.randrange(1, 12))]
            pieces, text = pieces_and_text(tokenizer, ids)
            assert "".join(pieces) == text, ids


def test_a_character_of_several_bytes_comes_in_one_piece(
    with_bytes: PreTrainedTokenizerFast,
) -> None:
    ids = [2, *(len(WORDS) + byte for byte in "\N{GRINNING FACE}\u00e9".encode()), 3]
    pieces, text = pieces_and_text(with_bytes, ids)
    assert text == "a\N{GRINNING FACE}\u00e9 b"
    assert [piece for piece in pieces if piece] == ["a", "\N{GRINNING FACE}\u00e9 b"]


def test_the_end_of_the_answer_is_no_text(with_bytes: PreTrainedTokenizerFast) -> None:
    stream = TextStream(with_bytes)
    assert [stream.add(token) for token in (2, 1)] == ["a", ""]
    assert stream.finish("a") == ""
