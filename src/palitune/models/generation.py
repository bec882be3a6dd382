"""Batched generation, greedy or by beams, that keeps the log-probability of every token."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from palitune.codec.grammar import Grammar
from palitune.models.grammar import Constraint, constraint


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


class _Choices(LogitsProcessor):  # type: ignore[misc]
    """Keep what each step may have chosen, with its log-probability under the model alone.

    A constraint says which tokens may come and does not touch the probabilities. Renormalised over
    what it allows, a forced token would be certain however little the model meant it, and a box
    that the model did not want would look as sure as one that it did; as they are, the scores of
    objects compare from one way of decoding to another.
    All scores would take steps x rows x 257,216 floats: the few best suffice, since a step takes
    the best token (greedy), or the best two per beam (beam search, one of them perhaps EOS).
    """

    def __init__(self, beams: int, constraint: Constraint | None) -> None:
        self.count = 1 if beams == 1 else 2 * beams
        self.constraint = constraint
        self.steps: list[tuple[torch.Tensor, torch.Tensor]] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        allowed = self.constraint(input_ids, scores) if self.constraint else scores
        if self.count == 1:  # no question which one it is, and `amax` is ten times as fast
            best = allowed.float().amax(-1, keepdim=True)
            ids = torch.full_like(best, -1, dtype=torch.long)
        else:
            best, ids = allowed.float().topk(self.count)
        self.steps.append((best - scores.float().logsumexp(-1, keepdim=True), ids))
        return allowed

    def log_probs(self, written: torch.Tensor, rows: torch.Tensor) -> list[list[float]]:
        """Look up the tokens (batch, tokens) that the rows (batch, tokens) wrote, step by step."""
        found = []
        for step, (log_probs, ids) in enumerate(self.steps[: written.shape[1]]):
            row = rows[:, step]
            is_it = ids[row] == written[:, step, None]
            # A token that is not among the best kept is the last of them, or ties with it.
            is_it[:, -1] |= ~is_it.any(1)
            found.append(log_probs[row][is_it])
        return torch.stack(found, dim=1).tolist()


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
    prompts, length = batch["input_ids"].shape
    limit = None
    if grammars is not None and any(grammars):
        limit = constraint(tokenizer, grammars, length, max_new_tokens)
    choices = _Choices(beams, limit)
    was_training = network.training
    network.eval()
    with torch.inference_mode():
        output = network.generate(
            **{key: value.to(network.device) for key, value in batch.items()},
            generation_config=_settings(tokenizer, max_new_tokens, beams),
            logits_processor=LogitsProcessorList([choices]),
        )
    network.train(was_training)
    written = output.sequences[:, length:]
    if beams == 1:
        rows = torch.arange(prompts, device=written.device)[:, None].expand_as(written)
    else:
        rows = output.beam_indices.long().clamp(min=0)  # -1 behind the end
    log_probs = choices.log_probs(written, rows)
    return [_read(tokenizer, *row) for row in zip(written.tolist(), log_probs, strict=True)]


def _settings(tokenizer: Any, max_new_tokens: int, beams: int) -> GenerationConfig:
    return GenerationConfig(
        max_new_tokens=max_new_tokens,
        num_beams=beams,
        do_sample=False,
        return_dict_in_generate=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _read(tokenizer: Any, ids: list[int], log_probs: list[float]) -> Generated:
    finished = tokenizer.eos_token_id in ids
    if finished:
        ids = ids[: ids.index(tokenizer.eos_token_id)]
    # A character may need several byte tokens, so only the decoded beginnings tell where each ends.
    ends = tuple(len(_decode(tokenizer, ids[: n + 1])) for n in range(len(ids)))
    return Generated(
        text=_decode(tokenizer, ids),
        ids=tuple(ids),
        ends=ends,
        log_probs=tuple(log_probs[: len(ids)]),
        finished=finished,
    )


def _decode(tokenizer: Any, ids: list[int]) -> str:
    text: str = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text
