"""Greedy generations of a model, one prompt at a time, with their logits."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from palitune.data.collator import Batch, Collator
from palitune.models.adapters.combination import AdapterCombination
from palitune.models.config import ModelConfig
from palitune.models.loading import load_combined
from palitune.models.paligemma import normalize_pixels
from palitune.records import Example


@dataclass(frozen=True)
class GreedyOutput:
    """Greedy generation for one prompt."""

    token_ids: list[int]
    """Generated tokens, with EOS if it was generated."""
    logits: Tensor
    """(tokens, vocabulary) float32: logits of every token of a generation."""


def greedy_outputs(
    network: Any, processor: Any, examples: Sequence[Example], max_new_tokens: int
) -> list[GreedyOutput]:
    """Generate greedily for each example and compute the logits of the generation.

    Args:
        network: Model to run.
        processor: Its processor.
        examples: Prompts.
        max_new_tokens: Maximum number of tokens to generate.
    """
    generations = _generate_each(network, processor, examples, max_new_tokens)
    return [
        GreedyOutput(ids, _completion_logits(network, batch, ids)) for batch, ids in generations
    ]


def outputs_for_references(
    network: Any,
    processor: Any,
    examples: Sequence[Example],
    max_new_tokens: int,
    references: Sequence[Sequence[GreedyOutput]],
) -> list[list[GreedyOutput]]:
    """Generate greedily once for each example and compute the logits of references' generations.

    Args:
        network: Model to run.
        processor: Its processor.
        examples: Prompts.
        max_new_tokens: Maximum number of tokens to generate.
        references: Outputs of other models for the examples.

    Returns:
        For each reference, the outputs of the examples.
    """
    outputs: list[list[GreedyOutput]] = [[] for _ in references]
    generations = _generate_each(network, processor, examples, max_new_tokens)
    for (batch, token_ids), *targets in zip(generations, *references, strict=True):
        logits: dict[tuple[int, ...], Tensor] = {}
        for reference_outputs, target in zip(outputs, targets, strict=True):
            key = tuple(target.token_ids)
            if key not in logits:
                logits[key] = _completion_logits(network, batch, target.token_ids)
            reference_outputs.append(GreedyOutput(token_ids, logits[key]))
    return outputs


def _generate_each(
    network: Any, processor: Any, examples: Sequence[Example], max_new_tokens: int
) -> Iterator[tuple[Batch, list[int]]]:
    """Yield the prompt of each example, as a batch of one, and the generated tokens."""
    collator = Collator(processor)
    for example in examples:
        batch = {
            key: value.to(network.device)
            for key, value in collator.collate_prompts([example]).items()
        }
        batch["pixel_values"] = normalize_pixels(batch["pixel_values"])
        yield batch, _generate_greedy(network, collator.tokenizer, batch, max_new_tokens)


def other_references(
    model: ModelConfig,
    adapters: AdapterCombination,
    processor: Any,
    examples: Sequence[Example],
    max_new_tokens: int,
    bits: int | None,
) -> dict[str, list[GreedyOutput]]:
    """Return the outputs of the models that an export differs from on purpose.

    Args:
        model: Settings of the base model.
        adapters: Adapters of the export.
        processor: Processor of the model.
        examples: Prompts.
        max_new_tokens: Maximum number of tokens to generate.
        bits: Bits per weight of the quantized base in training; None: not quantized.

    Returns:
        as_trained: outputs with the quantized base, if training quantized it; full_rank: outputs
        without rank reduction, if the rank is reduced.
    """
    variants = {
        "as_trained": adapters if bits else None,
        "full_rank": adapters.full_rank(),
    }
    outputs = {}
    for name, variant in variants.items():
        if variant is not None:
            network = load_combined(model, variant, quantized=name == "as_trained")
            outputs[name] = greedy_outputs(network, processor, examples, max_new_tokens)
            del network
    return outputs


def _generate_greedy(network: Any, tokenizer: Any, batch: Batch, max_new_tokens: int) -> list[int]:
    with torch.inference_mode():
        sequence = network.generate(
            **batch,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    ids: list[int] = sequence[0, batch["input_ids"].shape[1] :].tolist()
    return ids


def _completion_logits(network: Any, prompt: Batch, token_ids: list[int]) -> Tensor:
    ids = torch.tensor([token_ids[:-1]], dtype=torch.long, device=network.device)
    ones = torch.ones_like(ids)
    completion = {"input_ids": ids, "attention_mask": ones, "token_type_ids": ones}
    batch = prompt | {k: torch.cat([prompt[k], new], dim=1) for k, new in completion.items()}
    with torch.inference_mode():
        logits: Tensor = network(**batch, logits_to_keep=len(token_ids)).logits[0]
    return logits.float().cpu()
