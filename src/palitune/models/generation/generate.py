"""Batched generation, greedy or by beams, that keeps the log-probability of every token."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from palitune.codec.grammar import ObjectGrammar
from palitune.models.generation.beam_search import BeamSearch, GreedySearch, Hypothesis
from palitune.models.generation.constraints import build_logits_processor
from palitune.models.generation.kv_cache import generate_tokens
from palitune.models.paligemma import PaliGemmaPrefixLM


@dataclass(frozen=True)
class Generation:
    """What the model wrote for one prompt, EOS and what follows it cut off."""

    text: str
    token_ids: tuple[int, ...]
    char_ends: tuple[int, ...]
    """For every token, where its characters end in `text`."""
    log_probs: tuple[float, ...]
    """For every token, its log-probability given what stands before it."""
    finished: bool
    """False where the answer was still going on at `max_new_tokens`."""

    def confidence(self, start: int, end: int) -> float:
        """Geometric mean of the probabilities of the tokens that write `text[start:end]`."""
        inside = [
            log_prob
            for first, last, log_prob in zip((0, *self.char_ends), self.char_ends, self.log_probs)  # noqa: B905
            if first < end and last > start
        ]
        return float(torch.tensor(inside).mean().exp()) if inside else 1.0


def generate(
    network: Any,
    tokenizer: Any,
    batch: Mapping[str, torch.Tensor],
    max_new_tokens: int,
    *,
    num_beams: int = 1,
    grammars: Sequence[ObjectGrammar | None] | None = None,
) -> list[Generation]:
    """Continue left-padded prompts, which come from `Collator.prompt`, by the likeliest answer.

    `num_beams` answers are followed at a time; 1: greedily. The best has the highest log-probability
    per token. `grammars` has one for each prompt, None where any text is allowed; raises ModelError
    where `max_new_tokens` leave no room for a single object.
    """
    model = next(module for module in network.modules() if isinstance(module, PaliGemmaPrefixLM))
    limit = None
    if grammars is not None and any(grammars):
        limit = build_logits_processor(tokenizer, grammars, max_new_tokens)
    told = len(batch["input_ids"]), tokenizer.eos_token_id, max_new_tokens
    search = GreedySearch(*told, limit) if num_beams == 1 else BeamSearch(*told, num_beams, limit)
    was_training = network.training
    network.eval()
    with torch.inference_mode():
        moved = {key: value.to(model.device) for key, value in batch.items()}
        answers = generate_tokens(model, moved, search)
    network.train(was_training)
    return [_to_generation(tokenizer, answer) for answer in answers]


def _to_generation(tokenizer: Any, hypothesis: Hypothesis) -> Generation:
    finished = hypothesis.token_ids[-1] == tokenizer.eos_token_id
    ids = list(hypothesis.token_ids[:-1] if finished else hypothesis.token_ids)
    # A character may need several byte tokens, so only the decoded beginnings tell where each ends.
    ends = tuple(len(_decode(tokenizer, ids[: n + 1])) for n in range(len(ids)))
    return Generation(
        text=_decode(tokenizer, ids),
        token_ids=tuple(ids),
        char_ends=ends,
        log_probs=hypothesis.log_probs[: len(ids)],
        finished=finished,
    )


def _decode(tokenizer: Any, ids: list[int]) -> str:
    text: str = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text
