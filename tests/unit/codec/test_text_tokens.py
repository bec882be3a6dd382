"""Control tokens that a user typed are characters; the tokens decode to the text."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from palitune.codec.text_tokens import CONTROL_WORDS, RoundTripCheck, TextTokenizer

OBJECT_TOKENS = [*(f"<loc{i:04d}>" for i in range(1024)), *(f"<seg{i:03d}>" for i in range(128))]


def sentencepiece_like() -> PreTrainedTokenizerFast:
    """Return a tokenizer as Gemma's: spaces are U+2581, other characters bytes, <image> is last."""
    from tokenizers import Tokenizer, decoders, models, normalizers

    control = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    pieces = [*"abcdefghijklmnopqrstuvwxyz<>\n", "\u2581", "e" + "n", "o" + "s"]
    vocabulary = [*control, *pieces, *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer = Tokenizer(
        models.BPE(
            {piece: index for index, piece in enumerate(vocabulary)},
            [("e", "n"), ("o", "s")],
            unk_token="<unk>",
            byte_fallback=True,
            fuse_unk=True,
        )
    )
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>", eos_token="<eos>", bos_token="<bos>", unk_token="<unk>",
    )  # fmt: skip
    fast.add_special_tokens({"mask_token": "<mask>"})
    # Before the object tokens, so that their ids depend on it.
    fast.add_special_tokens({"additional_special_tokens": ["<image>"]})
    fast.add_tokens(OBJECT_TOKENS)
    return fast


@pytest.fixture(scope="module", params=["bytes", "sentencepiece"])
def tokenizer(request: pytest.FixtureRequest, tiny: Callable[[str], Path]) -> Any:
    if request.param == "sentencepiece":
        return sentencepiece_like()
    loaded = AutoTokenizer.from_pretrained(tiny("paligemma2"))
    loaded.add_special_tokens({"mask_token": "<mask>"})
    return loaded


@pytest.mark.parametrize("word", CONTROL_WORDS)
def test_a_control_token_in_a_text_is_plain_characters(word: str, tokenizer: Any) -> None:
    text = f"press {word} to end"
    control_id = tokenizer.convert_tokens_to_ids(word)
    assert control_id in tokenizer(text)["input_ids"]  # the fault that this module prevents
    [ids] = TextTokenizer(tokenizer).encode([text])
    assert control_id not in ids
    assert set(ids).isdisjoint(tokenizer.all_special_ids)
    assert TextTokenizer(tokenizer).decode(ids) == text
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_object_tokens_beside_a_control_token_stay_tokens(tokenizer: Any) -> None:
    [ids] = TextTokenizer(tokenizer).encode(["<loc0001><seg127><eos><loc1023>"])
    expected = tokenizer.convert_tokens_to_ids(["<loc0001>", "<seg127>", "<loc1023>"])
    assert [*ids[:2], ids[-1]] == expected
    assert len(ids) > 4


PIECES = st.sampled_from([*CONTROL_WORDS, "<", ">", "<loc0007>", "<seg000>", " ", "\n", "eos", "å"])


@given(st.lists(PIECES | st.text("ab <>eos", max_size=4), max_size=8).map("".join))
def test_tokens_decode_to_the_text(tokenizer: Any, text: str) -> None:
    text_tokenizer = TextTokenizer(tokenizer)
    [ids] = text_tokenizer.encode([text])
    assert text_tokenizer.decode(ids) == text
    assert set(ids).isdisjoint(tokenizer.all_special_ids)
    if not text_tokenizer.has_control_words(text):
        assert ids == tokenizer(text, add_special_tokens=False)["input_ids"]


@given(st.lists(st.lists(PIECES | st.text("ab <>eos;", max_size=4), max_size=8).map("".join)))
def test_the_counts_are_those_of_the_tokens(tokenizer: Any, texts: list[str]) -> None:
    text_tokenizer = TextTokenizer(tokenizer)
    assert text_tokenizer._splits_at_object_tokens
    assert text_tokenizer.count(texts) == [len(ids) for ids in text_tokenizer.encode(texts)]


def test_a_tokenizer_that_joins_parts_counts_whole_texts() -> None:
    """Some put a space before the first part only."""
    from tokenizers import pre_tokenizers

    tokenizer = sentencepiece_like()
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    text_tokenizer = TextTokenizer(tokenizer)
    texts = ["a<loc0001> boat", "<loc0001> boat", "boat"]
    assert not text_tokenizer._splits_at_object_tokens
    assert text_tokenizer.count(texts) == [len(ids) for ids in text_tokenizer.encode(texts)]


def test_offsets_cover_the_text(tokenizer: Any) -> None:
    for text in ("a <eos> b", "a b"):
        spans = TextTokenizer(tokenizer).offsets(text)
        assert "".join(text[start:end] for start, end in spans) == text
        assert len(spans) == len(TextTokenizer(tokenizer).encode([text])[0])


def test_a_worker_receives_the_tokenizer(tokenizer: Any) -> None:
    text_tokenizer = TextTokenizer(tokenizer)
    expected = text_tokenizer.encode(["<eos>"])
    assert pickle.loads(pickle.dumps(text_tokenizer)).encode(["<eos>"]) == expected


def test_a_text_that_tokens_cannot_give_back_is_found() -> None:
    check = RoundTripCheck(TextTokenizer(sentencepiece_like()))
    assert check.decoded_if_changed("a\u2581b") == "a b"
    assert check.decoded_if_changed("a\u2581b") == "a b"
    for text in ("a b", "två båtar", " a ", "", "<eos>", "船"):
        assert check.decoded_if_changed(text) is None
