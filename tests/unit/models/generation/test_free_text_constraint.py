"""Words of any letters keep their entries readable."""

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
SPOTTED = ObjectGrammar(labels=None)
BYTES = build_processor().tokenizer


def ids(text: str) -> list[int]:
    found: list[int] = BYTES(text, add_special_tokens=False)["input_ids"]
    return found


def test_whatever_is_written_within_the_tokens_left_is_read_back_whole() -> None:
    machine = compile_grammar(BYTES, SPOTTED)
    chance = random.Random(0)
    liked = {machine.eos_token_id, *ids(" ; "), *ids("\u00a0\u2003<> "), *ids("船")}
    counts = set()
    for _ in range(200):
        limit = chance.randint(13, 60)
        text = decode(BYTES, random_answer(machine, limit, len(BYTES), chance, liked))
        words, unreadable = decode_words(text, (100, 80))
        assert not unreadable, text
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
def test_what_is_an_answer_and_what_is_not(text: str, is_answer: bool) -> None:
    assert accepts(compile_grammar(BYTES, SPOTTED), ids(text), len(BYTES)) == is_answer


def test_a_word_is_begun_where_some_tokens_are_left_for_it() -> None:
    assert compile_grammar(BYTES, SPOTTED).max_object_tokens == 4 + MIN_FREE_TEXT_TOKENS + 1


def test_the_last_token_before_the_limit_can_be_seen() -> None:
    machine = compile_grammar(BYTES, SPOTTED)

    class Spaces(random.Random):
        """Writes blanks as long as it may."""

        def choice(self, seq: Any) -> Any:
            return blank if (blank := ids(" ")[0]) in seq else seq[-1]

    text = decode(BYTES, random_answer(machine, 13, len(BYTES), Spaces()))
    assert text[len(BOX) :].startswith(" " * (MIN_FREE_TEXT_TOKENS - 1))
    [word], unreadable = decode_words(text, (100, 80))
    assert word.label
    assert not unreadable
