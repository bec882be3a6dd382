"""Constrained answers are JSON of the declared fields, whatever the model prefers."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models
from transformers import AutoProcessor, PreTrainedTokenizerFast

from palitune.codec.json_fields import JsonGrammar, parse_declaration
from palitune.models.generation import constraints
from palitune.models.generation.constraints import build_logits_processor
from palitune.models.generation.json_constraint import JsonAutomaton, compile_json_grammar
from palitune.tasks.json_task import Json

from support.grammar_walks import token_ids
from support.tiny_models import build_processor

EMBEDDED = Path(constraints.__file__).parents[2] / "embedded" / "tiny_model"
DECLARED: dict[str, Any] = {
    "total": "number",
    "to": "text",
    "date": "date",
    "paid": "boolean",
    "größe": "lowercase",
    'a "b"': "text",
    "items": [{"name": "text", "price": "number", "tags": ["text"]}],
    "shop": {"name": "text", "opened": "date_month_first"},
}
GRAMMAR = JsonGrammar(parse_declaration(DECLARED))


def sentencepiece_tokenizer() -> Any:
    """A tokenizer with Gemma's conventions: `▁`, byte tokens, and pieces across values."""
    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", "<loc0000>"]
    pieces += [f"<0x{byte:02X}>" for byte in range(256)]
    pieces += ['":', '","', '":"', '{"', '"}', "}]}", '":[{"', "},", "total", "▁cake", "tea", "ü"]
    pieces += ["12", ".5", "2024", "-0", ',"items', "true", "0,", "\n", '\\"', "name", "é▁x", "]"]
    model = models.BPE(vocab={p: n for n, p in enumerate(pieces)}, merges=[], byte_fallback=True)
    tokenizer = Tokenizer(model)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(steps)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<eos>", bos_token="<bos>", pad_token="<pad>"
    )
    fast.add_tokens(["<loc0000>"], special_tokens=True)
    return fast


TOKENIZERS = {
    "bytes": build_processor().tokenizer,
    "embedded": AutoProcessor.from_pretrained(EMBEDDED).tokenizer,
    "sentencepiece": sentencepiece_tokenizer(),
}


def random_answer(automaton: JsonAutomaton, limit: int, rng: random.Random) -> list[int]:
    """Choose among the allowed tokens; single steps prefer rare ones, as texts have most."""
    state: Any = automaton.initial_state
    vocab_size = len(automaton.bytes_by_token)
    ids: list[int] = []
    while len(ids) < limit:
        sets = automaton.allowed_tokens(state, limit - len(ids))
        assert sets, f"no token is allowed after {ids}"
        token = rng.choice(list(token_ids(rng.choice(sets), vocab_size)))
        if token == automaton.eos_token_id:
            return ids
        ids.append(token)
        state = automaton.advance(state, token)
        assert state is not None
    raise AssertionError(f"no EOS within {limit} tokens")


@pytest.mark.parametrize("name", TOKENIZERS)
def test_none_of_1000_random_answers_is_malformed(name: str) -> None:
    tokenizer, task = TOKENIZERS[name], Json(fields=DECLARED)
    automaton = compile_json_grammar(tokenizer, GRAMMAR)
    rng, seen = random.Random(0), set()
    for _ in range(1000):
        ids = random_answer(automaton, rng.choice([3, 4, 10, 40, 150]), rng)
        text = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        value = json.loads(text)
        assert task.repairs(text) == (), text
        assert task.parse(text, (8, 8)) is not None
        assert list(value) == [field for field in DECLARED if field in value]
        assert not isinstance(value.get("total", 0), str | bool)
        assert isinstance(value.get("paid", True), bool)
        seen |= set(value)
    assert seen == set(DECLARED)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_canonical_target_is_within_the_grammar(name: str) -> None:
    tokenizer = TOKENIZERS[name]
    automaton = compile_json_grammar(tokenizer, GRAMMAR)
    content = {
        "total": -12.5, "to": 'tea "é\\', "date": "2024-02-29", "paid": False, "größe": "ü",
        'a "b"': "line\nline", "items": [{"name": "cake", "price": 0, "tags": ["x", "y"]}, {}],
        "shop": {"opened": "2023-12-31"},
    }  # fmt: skip
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    by_content = {
        content: token for token, content in enumerate(automaton.bytes_by_token) if content
    }
    ids: list[int] = []
    data = text.encode()
    while data:  # the longest token that fits
        size = max(n for n in range(1, 20) if data[:n] in by_content)
        ids.append(by_content[data[:size]])
        data = data[size:]
    state: Any = automaton.initial_state
    for token in ids:
        sets = automaton.allowed_tokens(state, 1000)
        assert any(token in token_ids(each, len(tokenizer)) for each in sets), token
        state = automaton.advance(state, token)
    assert automaton.allowed_tokens(state, 10) == [[tokenizer.eos_token_id]]
    assert automaton.allowed_tokens(None, 10) == []


@pytest.mark.parametrize(
    "text",
    [
        '{"total":"5', '{"total":01', '{"total":1e', '{"paid":1', '{"date":"2023-02-29', "{ ",
        '{"date":"2024-13', '{"to":"x","total"', '{"other"', '{"items":[]', '{"to":"\n', "[",
        '{"total":5,}', '{"to":"x"}}', '{"to":null', '{"to":"\\u',
    ],
)  # fmt: skip
def test_other_texts_leave_the_grammar(text: str) -> None:
    automaton = compile_json_grammar(TOKENIZERS["bytes"], GRAMMAR)
    state: Any = automaton.initial_state
    for byte in text.encode():
        state = None if state is None else automaton.advance_byte(state, byte)
    assert state is None


def test_the_logits_processor_follows_the_grammar_in_a_batch() -> None:
    tokenizer = TOKENIZERS["sentencepiece"]
    processor = build_logits_processor(tokenizer, [GRAMMAR, None], 60)
    generator = torch.Generator().manual_seed(0)
    ids: list[int] = []
    for _ in range(60):
        scores = torch.randn(2, len(tokenizer) + 5, generator=generator)
        masked = processor([0, 1], [ids, ids], scores)
        assert torch.equal(masked[1], scores[1])
        token = int(masked[0].argmax())
        if token == tokenizer.eos_token_id:
            break
        ids.append(token)
    text = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    assert isinstance(json.loads(text), dict)
