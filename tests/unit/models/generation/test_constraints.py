"""Answers within a grammar are parsed without malformed text and fit into the token limit."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoProcessor

from palitune.codec import boxes, masks
from palitune.codec.grammar import ObjectGrammar
from palitune.errors import ModelError
from palitune.models.generation.constraints import (
    AutomatonState,
    GrammarLogitsProcessor,
    build_logits_processor,
    compile_grammar,
    mask_scores,
)
from palitune.models.generation.label_trie import TokenMask

from support.grammar_walks import accepts, allowed_token_ids, decode, random_answer
from support.tiny_models import build_processor

EMBEDDED = Path(boxes.__file__).parents[1] / "embedded" / "tiny_model"
TOKENIZERS = [build_processor().tokenizer, AutoProcessor.from_pretrained(EMBEDDED).tokenizer]
BOX = "<loc0001><loc0002><loc0003><loc0004>"
SIMILAR_LABELS = ("boat", "boat house", "bo", "b", "red boat", "boats", "buoy")
"""Labels that are prefixes of others, or end with the words of others."""


def ids(tokenizer: Any, text: str) -> list[int]:
    token_ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return token_ids


class ContextTokenizer:
    """A tokenizer that splits `boat` differently before a separator, as merges may do."""

    eos_token_id = 1
    all_special_tokens = ("<pad>", "<eos>")
    pieces = ("<pad>", "<eos>", " boat", " bo", "at ;", " ", " buoy", " ;")

    def __init__(self) -> None:
        self.number = {piece: n for n, piece in enumerate(self.pieces)}
        self.number |= {f"<loc{n:04d}>": 8 + n for n in range(1024)}
        self.number |= {f"<seg{n:03d}>": 1032 + n for n in range(128)}

    def convert_tokens_to_ids(self, tokens: list[str]) -> list[int]:
        return [self.number[token] for token in tokens]

    def __call__(self, texts: str | list[str], add_special_tokens: bool) -> dict[str, Any]:
        if isinstance(texts, str):
            return {"input_ids": self._encode(texts)}
        return {"input_ids": [self._encode(text) for text in texts]}

    def _encode(self, text: str) -> list[int]:
        text = text.replace(" boat ; ", " bo|at ;| ")
        token_ids = []
        while text := text.removeprefix("|"):
            piece = max((p for p in self.number if text.startswith(p)), key=len)
            token_ids.append(self.number[piece])
            text = text[len(piece) :]
        return token_ids


@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=["bytes", "embedded"])
@pytest.mark.parametrize("with_masks", [False, True], ids=["boxes", "masks"])
def test_every_answer_of_a_grammar_is_parsed_without_malformed_text(
    tokenizer: Any, with_masks: bool
) -> None:
    grammar = ObjectGrammar(SIMILAR_LABELS, with_masks, max_objects=3)
    automaton = compile_grammar(tokenizer, grammar)
    rng = random.Random(0)
    counts = set()
    for _ in range(300):
        limit = rng.randint(automaton.max_object_tokens, 3 * automaton.max_object_tokens)
        text = decode(
            tokenizer,
            random_answer(automaton, limit, len(tokenizer), rng, {automaton.eos_token_id}),
        )
        objects, malformed = (masks if with_masks else boxes).parse_objects(text, (100, 80))
        assert not malformed, text
        assert {instance.label for instance, _ in objects} <= set(SIMILAR_LABELS)
        assert boxes.OBJECT_SEPARATOR.join(text.split(boxes.OBJECT_SEPARATOR)) == text
        assert text.count(";") == max(0, len(objects) - 1), text
        counts.add(len(objects))
    assert counts == {0, 1, 2, 3}


@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=["bytes", "embedded"])
def test_an_answer_has_the_fewest_objects_as_far_as_the_tokens_allow(tokenizer: Any) -> None:
    automaton = compile_grammar(
        tokenizer, ObjectGrammar(SIMILAR_LABELS, max_objects=3, allow_empty=False, min_objects=3)
    )
    rng, size, preferred = random.Random(0), automaton.max_object_tokens, {automaton.eos_token_id}
    for limit, least in ((size, 1), (2 * size, 1), (5 * size, 3)):
        for _ in range(40):
            text = decode(
                tokenizer, random_answer(automaton, limit, len(tokenizer), rng, preferred)
            )
            assert least <= len(boxes.parse_objects(text, (100, 80))[0]) <= 3
    with pytest.raises(ValueError, match="min_objects must be at most max_objects=2, got 3"):
        ObjectGrammar(SIMILAR_LABELS, max_objects=2, min_objects=3)


writable = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(
    lambda text: boxes.is_valid_label(text) and "<" not in text
)


@settings(max_examples=40)
@given(labels=st.lists(writable, min_size=1, max_size=6, unique=True), seed=st.integers(0, 99))
def test_all_valid_labels_are_supported(labels: list[str], seed: int) -> None:
    tokenizer = TOKENIZERS[0]
    automaton = compile_grammar(tokenizer, ObjectGrammar(tuple(labels)))
    text = decode(tokenizer, random_answer(automaton, 200, len(tokenizer), random.Random(seed)))
    objects, malformed = boxes.parse_objects(text, (100, 80))
    assert not malformed
    assert {instance.label for instance, _ in objects} <= set(labels)
    for label in labels:
        assert accepts(automaton, ids(tokenizer, f"{BOX} {label} ; {BOX} {label}"), len(tokenizer))


@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=["bytes", "embedded"])
@pytest.mark.parametrize(
    ("text", "is_answer"),
    [
        (f"{BOX} boat", True),
        (f"{BOX} boat ; {BOX} boat house ; {BOX} bo", True),
        ("", True),
        (f"{BOX} boat ; {BOX} boat ; {BOX} boat ; {BOX} boat", False),
        (f"{BOX} boat ; ", False),
        (f"{BOX} house", False),
        (f"{BOX}", False),
        (f"{BOX}<seg000> boat", False),
        ("<loc0003><loc0002><loc0001><loc0004> boat", False),
        ("<loc0001><loc0002><loc0003><loc0002> boat", False),
        ("<loc0001><loc0002><loc0003> boat", False),
        ("boat", False),
    ],
)
def test_which_texts_the_grammar_accepts(tokenizer: Any, text: str, is_answer: bool) -> None:
    automaton = compile_grammar(tokenizer, ObjectGrammar(SIMILAR_LABELS, max_objects=3))
    assert accepts(automaton, ids(tokenizer, text), len(tokenizer)) == is_answer


def test_a_grammar_may_require_an_object_without_a_label() -> None:
    tokenizer = TOKENIZERS[0]
    automaton = compile_grammar(tokenizer, ObjectGrammar(("",), max_objects=1, allow_empty=False))
    assert accepts(automaton, ids(tokenizer, BOX), len(tokenizer))
    for text in ("", f"{BOX} boat", f"{BOX} ; {BOX}"):
        assert not accepts(automaton, ids(tokenizer, text), len(tokenizer)), text


def test_a_label_with_other_tokens_before_the_separator_is_allowed_both_ways() -> None:
    tokenizer = ContextTokenizer()
    automaton = compile_grammar(tokenizer, ObjectGrammar(("boat", "buoy")))
    tokens = len(tokenizer.number)
    last, middle = ids(tokenizer, f"{BOX} boat"), ids(tokenizer, f"{BOX} boat ; {BOX} buoy")
    assert (last[4:], middle[4:7]) == ([2], [3, 4, 5])
    assert accepts(automaton, last, tokens)
    assert accepts(automaton, middle, tokens)
    assert not accepts(automaton, [*last[:4], 3], tokens), (
        "the tokens before a separator cannot end a label"
    )
    after_box: AutomatonState | None = AutomatonState()
    for token in last[:4]:
        after_box = automaton.advance(after_box, token)
    assert allowed_token_ids(automaton, after_box, 100, tokens) == {2, 3, 6}
    assert allowed_token_ids(automaton, after_box, 4, tokens) == {2, 6}, (
        "no room for another object"
    )


def test_short_labels_are_not_preferred() -> None:
    tokenizer = TOKENIZERS[0]
    automaton = compile_grammar(
        tokenizer, ObjectGrammar(("boat", "a very long name indeed 0123456789"))
    )
    needed = automaton.max_object_tokens
    assert needed == 5 + len(ids(tokenizer, " a very long name indeed 0123456789"))
    after_box: AutomatonState | None = AutomatonState()
    for token in ids(tokenizer, BOX):
        after_box = automaton.advance(after_box, token)
    ample = allowed_token_ids(automaton, after_box, 1000, len(tokenizer))
    assert allowed_token_ids(automaton, after_box, needed - 4, len(tokenizer)) == ample
    for token in ids(tokenizer, " boat"):
        after_box = automaton.advance(after_box, token)
    separator = ids(tokenizer, f"{BOX} boat ; {BOX}")[5:-4]
    for tokens_left, continues in (
        (needed + len(separator), True),
        (needed + len(separator) - 1, False),
    ):
        expected = {automaton.eos_token_id} | ({separator[0]} if continues else set())
        assert allowed_token_ids(automaton, after_box, tokens_left, len(tokenizer)) == expected


def test_too_few_tokens_for_one_object_are_refused() -> None:
    tokenizer = TOKENIZERS[0]
    needed = compile_grammar(tokenizer, ObjectGrammar(("boat",))).max_object_tokens
    with pytest.raises(
        ModelError, match=rf"task\.max_new_tokens must be at least {needed}, .* got 5"
    ):
        build_logits_processor(tokenizer, [None, ObjectGrammar(("boat",))], 5)
    build_logits_processor(tokenizer, [None, ObjectGrammar(("boat",))], needed)


def test_the_scores_of_allowed_tokens_stay_for_any_order_of_beams() -> None:
    tokenizer = TOKENIZERS[0]
    automaton = compile_grammar(tokenizer, ObjectGrammar(("boat", "buoy")))
    torch.manual_seed(0)
    processor = GrammarLogitsProcessor([automaton, None], max_new_tokens=40)
    answers = [ids(tokenizer, f"{BOX} {label} ; {BOX}") for label in ("buoy", "boat")]
    for length in range(min(map(len, answers)) + 1):
        generated = [answer[:length] for answer in (answers[::-1] if length % 2 else answers)]
        arguments = ([0, 0, 1, 1], [*generated, *generated])
        scores = torch.randn(4, len(tokenizer))
        masked = processor(*arguments, scores)
        new_processor = GrammarLogitsProcessor([automaton, None], max_new_tokens=40)
        assert torch.equal(masked, new_processor(*arguments, scores)), (
            "the cache does not change results"
        )
        assert torch.equal(masked[2:], scores[2:]), "all tokens are allowed without a grammar"
        for row in (0, 1):
            state: AutomatonState | None = AutomatonState()
            for token in generated[row]:
                state = automaton.advance(state, token)
            allowed = sorted(allowed_token_ids(automaton, state, 40 - length, len(tokenizer)))
            assert torch.equal(masked[row, allowed], scores[row, allowed])
            assert masked[row].isfinite().sum() == len(allowed) > 0
        single = processor([0], generated[1:], scores[1:2])
        assert torch.equal(single, masked[1:2]), "finished sequences leave"


def test_no_token_is_allowed_after_the_end_or_outside_the_grammar() -> None:
    tokenizer = TOKENIZERS[0]
    automaton = compile_grammar(tokenizer, ObjectGrammar(("boat",), with_masks=True))
    for token in (automaton.eos_token_id, automaton.first_seg_id, 5, 10**6):
        state = automaton.advance(AutomatonState(), token)
        assert state is None
        assert automaton.allowed_tokens(state, 9) == []
        assert automaton.advance(state, automaton.first_loc_id) is None


def test_masked_scores_are_those_of_the_allowed_tokens() -> None:
    scores = torch.randn(5, 40)
    large = TokenMask(torch.arange(30) % 3 == 0)
    allowed: list[Any] = [[[3, 5], range(7, 9)], None, [large, [1]], [], [large]]
    masked = mask_scores(scores, allowed)
    expected = [{3, 5, 7, 8}, set(range(40)), {*range(0, 30, 3), 1}, set(), {*range(0, 30, 3)}]
    for row, tokens in enumerate(expected):
        kept = torch.tensor([token in tokens for token in range(40)])
        assert torch.equal(masked[row, kept], scores[row, kept])
        assert (masked[row, ~kept] == float("-inf")).all()
