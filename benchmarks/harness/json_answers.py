"""Receipts as JSON in a vocabulary of the real size, and the decoding of given answers.

The tokenizer imitates Gemma's: 257,152 SentencePiece pieces with `▁` for a space, a token for every
byte, and pieces across the structure of JSON. Its words are random letters.
"""

from __future__ import annotations

import json
import random
import string
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from palitune.codec.json_fields import JsonGrammar, parse_declaration
from palitune.models.generation.constraints import build_logits_processor
from palitune.models.generation.json_constraint import compile_json_grammar

DECLARED: dict[str, Any] = {
    "shop": "text",
    "date": "date",
    "items": [{"name": "text", "count": "number", "price": "number"}],
    "total": "number",
    "paid": "boolean",
}
GRAMMAR = JsonGrammar(parse_declaration(DECLARED))
LONGEST_PIECE = 16


def build_tokenizer(vocabulary: int) -> Any:
    """Return a tokenizer with a number of pieces; a small one has fewer words."""
    rng = random.Random(0)
    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += ['":', '","', '":"', '{"', '"}', '"}]', "},{", ":[{", ',"', '":[{"', "},", "}]", "]}"]
    pieces += [*DECLARED, "name", "count", "price", "true", "false", ":true", ":false", "0,", "▁"]
    pieces += [*string.punctuation, *string.ascii_letters, *string.digits]
    pieces += [f"{number:02d}" for number in range(100)]
    known = dict.fromkeys(pieces)
    while len(known) < vocabulary:
        letters = rng.choice((string.ascii_lowercase, string.ascii_letters, "éßüñąжλ中の語"))
        word = "".join(rng.choices(letters, k=rng.randint(2, 10)))
        known[rng.choice(("", "▁", "▁", '"', ".")) + word] = None
    vocab = {piece: token for token, piece in enumerate(list(known)[:vocabulary])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[], byte_fallback=True))
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(steps)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<eos>", bos_token="<bos>", pad_token="<pad>"
    )


def random_receipts(tokenizer: Any, count: int, seed: int) -> list[list[int]]:
    """Return the tokens of random receipts, each with EOS, by the longest pieces that fit."""
    by_content = {
        content: token
        for token, content in enumerate(compile_json_grammar(tokenizer, GRAMMAR).bytes_by_token)
        if content
    }
    rng = random.Random(seed)
    return [[*_split(_receipt(rng), by_content), tokenizer.eos_token_id] for _ in range(count)]


def _receipt(rng: random.Random) -> bytes:
    def word() -> str:
        return "".join(rng.choices(string.ascii_lowercase, k=rng.randint(3, 9)))

    items = [
        {
            "name": f"{word().title()} {word()}",
            "count": rng.randint(1, 9),
            "price": rng.randint(1, 9999) / 100,
        }
        for _ in range(rng.randint(1, 2))
    ]
    receipt = {
        "shop": f"{word().title()} & {word().title()}",
        "date": f"20{rng.randint(10, 29)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}",
        "items": items,
        "total": rng.randint(1, 99999) / 100,
        "paid": rng.random() < 0.5,
    }
    return json.dumps(receipt, separators=(",", ":")).encode()


def _split(data: bytes, by_content: dict[bytes, int]) -> Iterator[int]:
    while data:
        sizes = range(min(len(data), LONGEST_PIECE), 0, -1)
        size = next(size for size in sizes if data[:size] in by_content)
        yield by_content[data[:size]]
        data = data[size:]


class GivenAnswers:
    """Scores that prefer given answers, followed by a constraint or not.

    A given token that the constraint forbids changes the answer.
    """

    def __init__(self, tokenizer: Any, answers: Sequence[Sequence[int]], *, constrained: bool):
        self.answers = answers
        limits = [len(answer) + 64 for answer in answers]
        self.constraint = None
        if constrained:
            self.constraint = build_logits_processor(tokenizer, [GRAMMAR] * len(answers), limits)

    def __call__(
        self, prompts: Sequence[int], generated: Sequence[Sequence[int]], scores: torch.Tensor
    ) -> torch.Tensor:
        pairs = zip(prompts, generated, strict=True)
        tokens = [self.answers[prompt][len(ids)] for prompt, ids in pairs]
        scores[torch.arange(len(tokens)), torch.tensor(tokens)] += 1e4
        return scores if self.constraint is None else self.constraint(prompts, generated, scores)


def random_constrained_answers(tokenizer: Any, count: int, seed: int) -> Iterator[str]:
    """Yield the answers of random scores over the vocabulary, which the constraint masks."""
    rng = random.Random(seed)
    torch.manual_seed(seed)
    noise = torch.randn(2 * len(tokenizer))
    for _ in range(count):
        limit = rng.choice((3, 10, 40, 100))
        constraint = build_logits_processor(tokenizer, [GRAMMAR], limit)
        ids: list[int] = []
        while len(ids) < limit:
            start = rng.randrange(len(tokenizer))
            scores = noise[None, start : start + len(tokenizer)].clone()
            # Texts of 257,152 random tokens would never end.
            scores[0, :512] += rng.choice((0.0, 8.0))
            token = int(constraint([0], [ids], scores).argmax())
            if token == tokenizer.eos_token_id:
                break
            ids.append(token)
        yield tokenizer.decode(ids, clean_up_tokenization_spaces=False)
