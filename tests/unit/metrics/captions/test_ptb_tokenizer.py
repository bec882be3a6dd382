"""The tokens of captions beside Stanford's own program, or what it said where there is no Java."""

import importlib.util
import json
import random
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palitune.metrics.captions import ptb_tokenizer
from palitune.metrics.captions.cider_bleu_rouge import ptb_tokenize

from support.caption_corpus import TOKENIZER_EDGE_CASES, random_caption

RECORDED = [
    json.loads(line)
    for line in (Path(__file__).parent / "stanford_tokens.jsonl").read_text("utf-8").splitlines()
]
"""Captions with the tokens of PTBTokenizer 3.4.1, each between two captions of one word."""
WORDS = st.sampled_from(
    [
        "man",
        "Dog",
        "B.",
        "A",
        "The",
        "no.",
        "5",
        "1/2",
        "555",
        "1234",
        "can't",
        "'s",
        "(a)",
        "<b",
        ">",
    ]
)


def official(captions: list[str]) -> list[list[str]]:
    """Ask the program itself; a word between captions keeps one from the sight of the last."""
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    apart = {n: [{"caption": text}, {"caption": "x"}] for n, text in enumerate(captions)}
    answers = PTBTokenizer().tokenize(apart)
    return [[token for token in answers[n][0].split(" ") if token] for n in range(len(captions))]


def test_ordinary_captions_are_cut_as_by_the_official_program() -> None:
    if shutil.which("java") and importlib.util.find_spec("pycocoevalcap"):
        chance = random.Random(17)
        captions = [random_caption(chance) for _ in range(4000)]
        expected = official(captions)
    else:
        ordinary = [entry for entry in RECORDED if entry["kind"] == "ordinary"]
        captions = [entry["caption"] for entry in ordinary]
        expected = [entry["tokens"] for entry in ordinary]
    differing = sum(
        ptb_tokenize(text) != tokens for text, tokens in zip(captions, expected, strict=True)
    )
    assert differing <= 0.001 * len(captions)


@pytest.mark.parametrize("entry", RECORDED, ids=lambda entry: entry["caption"][:30])
def test_every_recorded_caption_is_cut_as_it_was_by_the_official_program(
    entry: dict[str, str],
) -> None:
    assert ptb_tokenize(entry["caption"]) == entry["tokens"]


def test_every_trap_is_recorded() -> None:
    assert set(TOKENIZER_EDGE_CASES) == {
        entry["caption"] for entry in RECORDED if entry["kind"] == "trap"
    }


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("A man's hat.", ["a", "man", "'s", "hat"]),
        ("A man’s hat isn't here", ["a", "man", "'s", "hat", "is", "n't", "here"]),
        ("he cannot, and is gonna", ["he", "can", "not", "and", "is", "gon", "na"]),
        ('a "big" (red) one?', ["a", "big", "-lrb-", "red", "-rrb-", "one"]),
        ("what?! no!! yes!", ["what", "?!", "no", "!!", "yes"]),
        ("£5, €5 and ½", ["#", "5", "$", "5", "and", "1/2"]),
        ("two\ncaptions\r\nin\u2028one", ["two", "captions", "in", "one"]),
        ("call (555) 123-4567", ["call", "-lrb-555-rrb-\u00a0123-4567"]),
        ("", []),
        (" . , ", []),
    ],
)
def test_tokens_of_literals(text: str, tokens: list[str]) -> None:
    assert ptb_tokenize(text) == tokens


@given(st.lists(WORDS, max_size=6).map(" ".join) | st.text("aB5. '’()-/,<>", max_size=14))
def test_words_cut_one_by_one_give_what_the_whole_caption_gives(text: str) -> None:
    assert ptb_tokenize(text) == ptb_tokenizer._tokenize_text(text)


@given(st.text(max_size=40))
def test_any_text_gives_tokens_in_lower_case_without_white_space_or_dropped_marks(
    text: str,
) -> None:
    for token in ptb_tokenize(text):
        assert token
        assert token not in ptb_tokenizer.DROPPED_TOKENS
        assert not set(token) & set(" \t\n\r\u2028")
        assert token == token.lower()


def test_cutting_does_not_change_what_was_cut_before() -> None:
    ptb_tokenize("a man").append("x")
    assert ptb_tokenize("a man") == ["a", "man"]
