"""Batched generation with log-probabilities: greedy or beam search, optionally with a grammar."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from palitune.codec.grammar import ObjectGrammar
from palitune.codec.json_fields import JsonGrammar
from palitune.models.generation.beam_search import (
    BeamSearch,
    GreedySearch,
    Hypothesis,
    limit_per_prompt,
)
from palitune.models.generation.constraints import build_logits_processor
from palitune.models.generation.kv_cache import generate_tokens
from palitune.models.generation.static_kv_cache import decoder_class
from palitune.models.modes import inference_mode
from palitune.models.paligemma import PaliGemmaPrefixLM


@dataclass(frozen=True)
class Generation:
    """Generated text of one prompt, without EOS."""

    text: str
    token_ids: tuple[int, ...]
    char_ends: tuple[int, ...]
    """End of each token's characters in `text`."""
    log_probs: tuple[float, ...]
    """Log-probability of each token."""
    finished: bool
    """False if generation stopped at `max_new_tokens`."""

    def confidence(self, start: int, end: int) -> float:
        """Return the geometric mean of the probabilities of the tokens of `text[start:end]`."""
        char_starts = (0, *self.char_ends[:-1])
        tokens = zip(char_starts, self.char_ends, self.log_probs, strict=False)
        inside = [log_prob for first, last, log_prob in tokens if first < end and last > start]
        return float(torch.tensor(inside).mean().exp()) if inside else 1.0


def generate(
    network: Any,
    tokenizer: Any,
    batch: Mapping[str, torch.Tensor],
    max_new_tokens: int | Sequence[int],
    *,
    num_beams: int = 1,
    grammars: Sequence[ObjectGrammar | JsonGrammar | None] | None = None,
    cuda_graphs: bool = False,
) -> list[Generation]:
    """Generate the answer to each prompt of a batch.

    Args:
        network: PaliGemmaPrefixLM, possibly inside a PEFT model or another wrapper.
        tokenizer: Tokenizer of the model.
        batch: Left-padded prompts from `Collator.collate_prompts`.
        max_new_tokens: Most tokens of an answer, EOS included; one number, or one per prompt.
        num_beams: Beams per prompt; 1: greedy search.
        grammars: Grammar of each prompt; None allows any text.
        cuda_graphs: Replay the decoding step as a CUDA graph; no effect on a CPU.

    Raises:
        ModelError: A single object of a grammar does not fit into the limit of its prompt.
    """
    from palitune.models.adapters.fast_lora import cached_lora_weights

    num_prompts = len(batch["input_ids"])
    most = limit_per_prompt(max_new_tokens, num_prompts)
    model = next(module for module in network.modules() if isinstance(module, PaliGemmaPrefixLM))
    processor = None
    if grammars is not None and any(grammars):
        processor = build_logits_processor(tokenizer, grammars, most)
    limits = num_prompts, tokenizer.eos_token_id, most
    strategy = (
        GreedySearch(*limits, processor)
        if num_beams == 1
        else BeamSearch(*limits, num_beams, processor)
    )
    with inference_mode(network), cached_lora_weights(network), model.autocast():
        inputs = {key: value.to(model.device) for key, value in batch.items()}
        hypotheses = generate_tokens(
            model, inputs, strategy, decoder_class(model.device, cuda_graphs=cuda_graphs)
        )
    return [to_generation(tokenizer, hypothesis) for hypothesis in hypotheses]


def to_generation(tokenizer: Any, hypothesis: Hypothesis) -> Generation:
    """Return the text of a finished hypothesis."""
    finished = hypothesis.token_ids[-1] == tokenizer.eos_token_id
    ids = list(hypothesis.token_ids[:-1] if finished else hypothesis.token_ids)
    # A character may consist of several byte tokens, so decode every prefix to find its end.
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
