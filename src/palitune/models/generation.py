"""Greedy batched generation that keeps the log-probability of every token it writes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList


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


class _LogProbs(LogitsProcessor):  # type: ignore[misc]
    """Remember the log-probability of each greedy choice; the full scores would take
    steps x batch x 257,216 floats."""

    def __init__(self) -> None:
        self.steps: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        wide = scores.float()
        self.steps.append(wide.amax(-1) - wide.logsumexp(-1))
        return scores


def generate(
    network: Any, tokenizer: Any, batch: Mapping[str, torch.Tensor], max_new_tokens: int
) -> list[Generated]:
    """Continue left-padded prompts greedily; `batch` comes from `Collator.prompt`."""
    recorded = _LogProbs()
    was_training = network.training
    network.eval()
    with torch.inference_mode():
        sequences = network.generate(
            **{key: value.to(network.device) for key, value in batch.items()},
            generation_config=_greedy(tokenizer, max_new_tokens),
            logits_processor=LogitsProcessorList([recorded]),
        )
    network.train(was_training)
    written = sequences[:, batch["input_ids"].shape[1] :].tolist()
    log_probs = torch.stack(recorded.steps, dim=1).tolist()
    return [_read(tokenizer, ids, row) for ids, row in zip(written, log_probs, strict=True)]


def _greedy(tokenizer: Any, max_new_tokens: int) -> GenerationConfig:
    return GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
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
