"""Free text within a grammar can be parsed back."""

import random
from typing import Any

import pytest

from palitune.codec.grammar import ObjectGrammar
from palitune.models.generation.constraints import compile_grammar
from palitune.models.generation.free_text_constraint import MIN_FREE_TEXT_TOKENS
from palitune.tasks.text_spotting import decode_words

from support.grammar_walks import accepts, decode, random_answer
from support.tiny_models import build_processor

BOX = "<loc0001><loc0002><loc0003><loc0004>"
TEXT_SPOTTING = ObjectGrammar(labels=None)
BYTES = build_processor().tokenizer


def ids(text: str) -> list[int]:
    token_ids: list[int] = BYTES(text, add_special_tokens=False)["input_ids"]
    return token_ids


def test_every_answer_of_the_grammar_is_parsed_without_malformed_text() -> None:
    automaton = compile_grammar(BYTES, TEXT_SPOTTING)
    rng = random.Random(0)
    preferred = {automaton.eos_token_id, *ids(" ; "), *ids("\u00a0\u2003<> "), *ids("船")}
    counts = set()
    for _ in range(200):
        limit = rng.randint(13, 60)
        text = decode(BYTES, random_answer(automaton, limit, len(BYTES), rng, preferred))
        words, malformed = decode_words(text, (100, 80))
        assert not malformed, text
        counts.add(len(words))
    assert {0, 1, 2} <= counts


@pytest.mark.parametrize(
    ("text", "is_answer"),
    [
        (f"{BOX} red ; {BOX} boat", True),
        (f"{BOX} £12.50 ; {BOX} a;b ; {BOX} two words", True),
        (f"{BOX} a < b ; {BOX} a > b", True),
        (f"{BOX} été ; {BOX} 船", True),
        (f"{BOX} <b>", False),
        (f"{BOX}  ", False),
        (f"{BOX} ; {BOX} boat", False),
        (f"{BOX} red ; ", False),
        (f"{BOX} red {BOX} boat", False),
        (f"{BOX} red<seg000>", False),
        (f"{BOX} red<pad>", False),
        ("red", False),
    ],
)
def test_which_texts_the_grammar_accepts(text: str, is_answer: bool) -> None:
    assert accepts(compile_grammar(BYTES, TEXT_SPOTTING), ids(text), len(BYTES)) == is_answer


def test_some_tokens_are_reserved_for_a_text() -> None:
    assert compile_grammar(BYTES, TEXT_SPOTTING).max_object_tokens == 4 + MIN_FREE_TEXT_TOKENS + 1


def test_the_last_token_before_the_limit_is_visible() -> None:
    automaton = compile_grammar(BYTES, TEXT_SPOTTING)

    class PreferSpaces(random.Random):
        """Selects spaces as long as they are allowed."""

        def choice(self, seq: Any) -> Any:
            return blank if (blank := ids(" ")[0]) in seq else seq[-1]

    text = decode(BYTES, random_answer(automaton, 13, len(BYTES), PreferSpaces()))
    assert text[len(BOX) :].startswith(" " * (MIN_FREE_TEXT_TOKENS - 1))
    [word], malformed = decode_words(text, (100, 80))
    assert word.label
    assert not malformed
