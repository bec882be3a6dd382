"""Whatever keeps to a grammar is read back without a fault, within the tokens that are left."""

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
)

from support.grammar_walks import accepts, allowed_token_ids, decode, random_answer
from support.tiny_models import build_processor

EMBEDDED = Path(boxes.__file__).parents[1] / "embedded" / "tiny_model"
TOKENIZERS = [build_processor().tokenizer, AutoProcessor.from_pretrained(EMBEDDED).tokenizer]
BOX = "<loc0001><loc0002><loc0003><loc0004>"
LIKE = ("boat", "boat house", "bo", "b", "red boat", "boats", "buoy")
"""Labels that begin one another, and one after the other's words."""


def ids(tokenizer: Any, text: str) -> list[int]:
    found: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return found


class Merging:
    """A tokenizer that cuts `boat` otherwise where a separator follows, as merges may do."""

    eos_token_id = 1
    pieces = ("<pad>", "<eos>", " boat", " bo", "at ;", " ", " buoy", " ;")

    def __init__(self) -> None:
        self.number = {piece: n for n, piece in enumerate(self.pieces)}
        self.number |= {f"<loc{n:04d}>": 8 + n for n in range(1024)}
        self.number |= {f"<seg{n:03d}>": 1032 + n for n in range(128)}

    def convert_tokens_to_ids(self, tokens: list[str]) -> list[int]:
        return [self.number[token] for token in tokens]

    def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
        text = text.replace(" boat ; ", " bo|at ;| ")
        found = []
        while text := text.removeprefix("|"):
            piece = max((p for p in self.number if text.startswith(p)), key=len)
            found.append(self.number[piece])
            text = text[len(piece) :]
        return {"input_ids": found}


@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=["bytes", "embedded"])
@pytest.mark.parametrize("of_masks", [False, True], ids=["boxes", "masks"])
def test_every_answer_that_keeps_to_a_grammar_is_read_back_whole(
    tokenizer: Any, of_masks: bool
) -> None:
    grammar = ObjectGrammar(LIKE, of_masks, max_objects=3)
    machine = compile_grammar(tokenizer, grammar)
    chance = random.Random(0)
    counts = set()
    for _ in range(300):
        limit = chance.randint(machine.max_object_tokens, 3 * machine.max_object_tokens)
        text = decode(
            tokenizer, random_answer(machine, limit, len(tokenizer), chance, {machine.eos_token_id})
        )
        found, unreadable = (masks if of_masks else boxes).parse_objects(text, (100, 80))
        assert not unreadable, text
        assert {instance.label for instance, _ in found} <= set(LIKE)
        assert boxes.OBJECT_SEPARATOR.join(text.split(boxes.OBJECT_SEPARATOR)) == text
        assert text.count(";") == max(0, len(found) - 1), text
        counts.add(len(found))
    assert counts == {0, 1, 2, 3}


@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=["bytes", "embedded"])
def test_an_answer_has_the_objects_it_must_have_as_far_as_the_tokens_allow(tokenizer: Any) -> None:
    machine = compile_grammar(
        tokenizer, ObjectGrammar(LIKE, max_objects=3, allow_empty=False, min_objects=3)
    )
    chance, size, liked = random.Random(0), machine.max_object_tokens, {machine.eos_token_id}
    for limit, least in ((size, 1), (2 * size, 1), (5 * size, 3)):
        for _ in range(40):
            text = decode(tokenizer, random_answer(machine, limit, len(tokenizer), chance, liked))
            assert least <= len(boxes.parse_objects(text, (100, 80))[0]) <= 3
    with pytest.raises(ValueError, match="min_objects must be at most max_objects=2, got 3"):
        ObjectGrammar(LIKE, max_objects=2, min_objects=3)


writable = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(
    lambda text: boxes.is_valid_label(text) and "<" not in text
)


@settings(max_examples=40)
@given(labels=st.lists(writable, min_size=1, max_size=6, unique=True), seed=st.integers(0, 99))
def test_labels_may_be_any_that_can_be_written(labels: list[str], seed: int) -> None:
    tokenizer = TOKENIZERS[0]
    machine = compile_grammar(tokenizer, ObjectGrammar(tuple(labels)))
    text = decode(tokenizer, random_answer(machine, 200, len(tokenizer), random.Random(seed)))
    found, unreadable = boxes.parse_objects(text, (100, 80))
    assert not unreadable
    assert {instance.label for instance, _ in found} <= set(labels)
    for label in labels:
        assert accepts(machine, ids(tokenizer, f"{BOX} {label} ; {BOX} {label}"), len(tokenizer))


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
def test_what_is_an_answer_and_what_is_not(tokenizer: Any, text: str, is_answer: bool) -> None:
    machine = compile_grammar(tokenizer, ObjectGrammar(LIKE, max_objects=3))
    assert accepts(machine, ids(tokenizer, text), len(tokenizer)) == is_answer


def test_an_answer_may_have_to_name_an_object_and_the_object_no_label() -> None:
    tokenizer = TOKENIZERS[0]
    machine = compile_grammar(tokenizer, ObjectGrammar(("",), max_objects=1, allow_empty=False))
    assert accepts(machine, ids(tokenizer, BOX), len(tokenizer))
    for text in ("", f"{BOX} boat", f"{BOX} ; {BOX}"):
        assert not accepts(machine, ids(tokenizer, text), len(tokenizer)), text


def test_a_label_that_is_cut_otherwise_before_the_separator_is_written_both_ways() -> None:
    tokenizer = Merging()
    machine = compile_grammar(tokenizer, ObjectGrammar(("boat", "buoy")))
    tokens = len(tokenizer.number)
    last, middle = ids(tokenizer, f"{BOX} boat"), ids(tokenizer, f"{BOX} boat ; {BOX} buoy")
    assert (last[4:], middle[4:7]) == ([2], [3, 4, 5])
    assert accepts(machine, last, tokens)
    assert accepts(machine, middle, tokens)
    assert not accepts(machine, [*last[:4], 3], tokens), "a label cannot end as it goes on"
    boxed: AutomatonState | None = AutomatonState()
    for token in last[:4]:
        boxed = machine.advance(boxed, token)
    assert allowed_token_ids(machine, boxed, 100, tokens) == {2, 3, 6}
    assert allowed_token_ids(machine, boxed, 4, tokens) == {2, 6}, "no room for another object"


def test_no_label_is_preferred_for_being_short() -> None:
    tokenizer = TOKENIZERS[0]
    machine = compile_grammar(
        tokenizer, ObjectGrammar(("boat", "a very long name indeed 0123456789"))
    )
    needed = machine.max_object_tokens
    assert needed == 5 + len(ids(tokenizer, " a very long name indeed 0123456789"))
    boxed: AutomatonState | None = AutomatonState()
    for token in ids(tokenizer, BOX):
        boxed = machine.advance(boxed, token)
    ample = allowed_token_ids(machine, boxed, 1000, len(tokenizer))
    assert allowed_token_ids(machine, boxed, needed - 4, len(tokenizer)) == ample
    for token in ids(tokenizer, " boat"):
        boxed = machine.advance(boxed, token)
    separator = ids(tokenizer, f"{BOX} boat ; {BOX}")[5:-4]
    for left, goes_on in ((needed + len(separator), True), (needed + len(separator) - 1, False)):
        expected = {machine.eos_token_id} | ({separator[0]} if goes_on else set())
        assert allowed_token_ids(machine, boxed, left, len(tokenizer)) == expected


def test_too_few_tokens_for_one_object_are_refused() -> None:
    tokenizer = TOKENIZERS[0]
    needed = compile_grammar(tokenizer, ObjectGrammar(("boat",))).max_object_tokens
    with pytest.raises(ModelError, match=rf"task\.max_new_tokens must be at least {needed}, .* got 5"):
        build_logits_processor(tokenizer, [None, ObjectGrammar(("boat",))], 5)
    build_logits_processor(tokenizer, [None, ObjectGrammar(("boat",))], needed)


def test_the_constraint_keeps_the_scores_of_what_is_allowed_whatever_the_order_of_beams() -> None:
    tokenizer = TOKENIZERS[0]
    machine = compile_grammar(tokenizer, ObjectGrammar(("boat", "buoy")))
    torch.manual_seed(0)
    limited = GrammarLogitsProcessor([machine, None], max_new_tokens=40)
    answers = [ids(tokenizer, f"{BOX} {label} ; {BOX}") for label in ("buoy", "boat")]
    for length in range(min(map(len, answers)) + 1):
        own = [answer[:length] for answer in (answers[::-1] if length % 2 else answers)]
        told = ([0, 0, 1, 1], [*own, *own])
        scores = torch.randn(4, len(tokenizer))
        masked = limited(*told, scores)
        fresh = GrammarLogitsProcessor([machine, None], max_new_tokens=40)
        assert torch.equal(masked, fresh(*told, scores)), "it remembers nothing of import"
        assert torch.equal(masked[2:], scores[2:]), "no grammar, any token"
        for row in (0, 1):
            state: AutomatonState | None = AutomatonState()
            for token in own[row]:
                state = machine.advance(state, token)
            open_ = sorted(allowed_token_ids(machine, state, 40 - length, len(tokenizer)))
            assert torch.equal(masked[row, open_], scores[row, open_])
            assert masked[row].isfinite().sum() == len(open_) > 0
        one = limited([0], own[1:], scores[1:2])
        assert torch.equal(one, masked[1:2]), "answers that have ended leave"


def test_nothing_is_allowed_behind_the_end_or_outside_the_grammar() -> None:
    tokenizer = TOKENIZERS[0]
    machine = compile_grammar(tokenizer, ObjectGrammar(("boat",), with_masks=True))
    for token in (machine.eos_token_id, machine.first_seg_id, 5, 10**6):
        state = machine.advance(AutomatonState(), token)
        assert state is None
        assert machine.allowed_tokens(state, 9) == []
        assert machine.advance(state, machine.first_loc_id) is None
