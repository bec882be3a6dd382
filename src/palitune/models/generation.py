"""Batched generation, greedy or by beams, that keeps the log-probability of every token."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from palitune.codec.grammar import Grammar
from palitune.models.decoding import write
from palitune.models.grammar import constraint
from palitune.models.prefix_lm import PrefixLM
from palitune.models.search import Answer, Beams, Greedy


@dataclass(frozen=True)
class Generated:
    """What the model wrote for one prompt, EOS and what follows it cut off."""

    text: str
    ids: tuple[int, ...]
    ends: tuple[int, ...]
    """For every token, where its characters end in `text`."""
    log_probs: tuple[float, ...]
    """For every token, its log-probability given what stands before it."""
    finished: bool
    """False where the answer was still going on at `max_new_tokens`."""

    def confidence(self, start: int, end: int) -> float:
        """Geometric mean of the probabilities of the tokens that write `text[start:end]`."""
        inside = [
            log_prob
            for first, last, log_prob in zip((0, *self.ends), self.ends, self.log_probs)  # noqa: B905
            if first < end and last > start
        ]
        return float(torch.tensor(inside).mean().exp()) if inside else 1.0


def generate(
    network: Any,
    tokenizer: Any,
    batch: Mapping[str, torch.Tensor],
    max_new_tokens: int,
    *,
    beams: int = 1,
    grammars: Sequence[Grammar | None] | None = None,
) -> list[Generated]:
    """Continue left-padded prompts, which come from `Collator.prompt`, by the likeliest answer.

    `beams` answers are followed at a time; 1: greedily. The best has the highest log-probability
    per token. `grammars` has one for each prompt, None where any text is allowed; raises ModelError
    where `max_new_tokens` leave no room for a single object.
    """
    model = next(module for module in network.modules() if isinstance(module, PrefixLM))
    limit = None
    if grammars is not None and any(grammars):
        limit = constraint(tokenizer, grammars, max_new_tokens)
    told = len(batch["input_ids"]), tokenizer.eos_token_id, max_new_tokens
    search = Greedy(*told, limit) if beams == 1 else Beams(*told, beams, limit)
    was_training = network.training
    network.eval()
    with torch.inference_mode():
        moved = {key: value.to(model.device) for key, value in batch.items()}
        answers = write(model, moved, search)
    network.train(was_training)
    return [_read(tokenizer, answer) for answer in answers]


def _read(tokenizer: Any, answer: Answer) -> Generated:
    finished = answer.ids[-1] == tokenizer.eos_token_id
    ids = list(answer.ids[:-1] if finished else answer.ids)
    # A character may need several byte tokens, so only the decoded beginnings tell where each ends.
    ends = tuple(len(_decode(tokenizer, ids[: n + 1])) for n in range(len(ids)))
    return Generated(
        text=_decode(tokenizer, ids),
        ids=tuple(ids),
        ends=ends,
        log_probs=answer.log_probs[: len(ids)],
        finished=finished,
    )


def _decode(tokenizer: Any, ids: list[int]) -> str:
    text: str = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text
