"""How far an exported model is from base and adapter, by logits and by tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import AutoProcessor

from palitune.data.collator import Batch, Collator
from palitune.errors import ModelError
from palitune.export.config import ExportConfig
from palitune.models.adapters.merging import load_with_transformers
from palitune.models.config import ModelConfig
from palitune.models.loading import resolve_device
from palitune.models.paligemma import normalize_pixels
from palitune.records import Example


@dataclass(frozen=True)
class GreedyOutput:
    """What a model writes to a prompt, greedily."""

    token_ids: list[int]
    """EOS included, where it came."""
    logits: Tensor
    """Of every token of an answer, given what stands before it: (tokens, vocabulary) float32."""


@dataclass(frozen=True, kw_only=True)
class LogitDistance:
    """Between what two models make of the same prompts and, token by token, of the same answers."""

    max_difference: float
    """Of any logit."""
    mean_difference: float
    deviation: float
    """Standard deviation of the reference's logits."""
    same_tokens: float
    """Share of the tokens generated that are the same."""
    same_answers: float


@dataclass(frozen=True, kw_only=True)
class ParityReport:
    """What parity.json says."""

    dtype: str
    quantize: str
    bound: float | None
    """Of `largest`; None: not judged."""
    largest: float
    """`merged.max_difference` in standard deviations of the logits."""
    merged: LogitDistance
    """Between the export and adapter on base, the base not quantized."""
    as_trained: LogitDistance | None
    """Between the export and adapter on quantized base; None where training quantized nothing."""
    bits: int | None
    """Per weight of that quantized base."""
    largest_pixel_difference: float
    """Between the exported processor's pixels, in [-1, 1], and those of the training."""
    prompts: list[dict[str, str]]
    """Prompt, answer of base and adapter, answer of the export."""

    def summary_lines(self) -> list[str]:
        """Say it in the terminal."""
        told = [f"export against base + adapter: {_format_distance(self.merged)}"]
        if self.as_trained:
            told.append(
                f"export against base in {self.bits} bits + adapter, as trained: "
                f"{_format_distance(self.as_trained)}"
            )
        return told


def greedy_outputs(
    network: Any,
    processor: Any,
    examples: Sequence[Example],
    max_new_tokens: int,
    reference_outputs: Sequence[GreedyOutput] | None = None,
) -> list[GreedyOutput]:
    """Let a model answer each example; logits are of the answers `given`, else of its own."""
    collator = Collator(processor)
    found = []
    for number, example in enumerate(examples):
        batch = {
            key: value.to(network.device)
            for key, value in collator.collate_prompts([example]).items()
        }
        batch["pixel_values"] = normalize_pixels(batch["pixel_values"])
        ids = _generate_greedy(network, collator.tokenizer, batch, max_new_tokens)
        found.append(
            GreedyOutput(
                ids,
                _completion_logits(
                    network,
                    batch,
                    reference_outputs[number].token_ids if reference_outputs else ids,
                ),
            )
        )
    return found


def logit_distance(
    reference: Sequence[GreedyOutput], export: Sequence[GreedyOutput]
) -> LogitDistance:
    """Compare what two models wrote, with logits of the same answers."""
    pairs = list(zip(reference, export, strict=True))
    gaps = torch.cat([(a.logits - b.logits).abs().flatten() for a, b in pairs])
    tokens = sum(max(len(a.token_ids), len(b.token_ids)) for a, b in pairs)
    same = sum(x == y for a, b in pairs for x, y in zip(a.token_ids, b.token_ids, strict=False))
    return LogitDistance(
        max_difference=float(gaps.max()),
        mean_difference=float(gaps.mean()),
        deviation=float(torch.cat([a.logits.flatten() for a, _ in pairs]).std()),
        same_tokens=same / tokens,
        same_answers=sum(a.token_ids == b.token_ids for a, b in pairs) / len(pairs),
    )


def measure_parity(
    folder: Path,
    processor: Any,
    examples: Sequence[Example],
    reference_outputs: Sequence[Sequence[GreedyOutput]],
    settings: ExportConfig,
    *,
    model: ModelConfig,
    bits: int | None,
) -> ParityReport:
    """Load an exported folder as plain transformers does and compare it.

    `references`: of base and adapter, and of quantized base and adapter where training had one of
    so many `bits`.
    """
    exported = load_with_transformers(folder, resolve_device(model))
    own = AutoProcessor.from_pretrained(folder)
    answers = [
        greedy_outputs(exported, own, examples, settings.max_new_tokens, given)
        for given in reference_outputs
    ]
    merged, *as_trained = map(logit_distance, reference_outputs, answers)
    dtype = str(exported.lm_head.weight.dtype)
    read = partial(own.tokenizer.decode, skip_special_tokens=True)
    return ParityReport(
        dtype=dtype.removeprefix("torch."),
        quantize=settings.quantize.value,
        bound=settings.max_logit_error_for(dtype),
        largest=merged.max_difference / merged.deviation,
        merged=merged,
        as_trained=as_trained[0] if as_trained else None,
        bits=bits,
        largest_pixel_difference=max_pixel_difference(own, processor, examples[0]),
        prompts=[
            {
                "prompt": example.prefix,
                "trained": read(one.token_ids),
                "exported": read(other.token_ids),
            }
            for example, one, other in zip(examples, reference_outputs[0], answers[0], strict=True)
        ],
    )


def max_pixel_difference(
    exported_processor: Any, trained_processor: Any, example: Example
) -> float:
    """Compare the pixels, in [-1, 1], that both processors make of an example's images."""
    pictures = [Image.open(path).convert("RGB") for path in example.images]
    plain = exported_processor.image_processor(images=pictures, return_tensors="pt")["pixel_values"]
    ours = normalize_pixels(Collator(trained_processor).collate_prompts([example])["pixel_values"])
    return float((plain - ours).abs().max())


def assert_parity(parity: ParityReport, folder: Path) -> None:
    """Raise ModelError where the export is too far from what was trained."""
    if parity.bound is not None and not parity.largest <= parity.bound:
        raise ModelError(
            f"the export's logits are up to {parity.largest:.3g} standard deviations from those of "
            f"base and adapter, more than max_logit_error={parity.bound:g}; do not use {folder}, or raise "
            "max_logit_error if parity.json there is good enough"
        )


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
    answer = torch.tensor([token_ids[:-1]], dtype=torch.long, device=network.device)
    longer = {
        "input_ids": answer,
        "attention_mask": torch.ones_like(answer),
        "token_type_ids": torch.ones_like(answer),
    }
    batch = prompt | {key: torch.cat([prompt[key], more], 1) for key, more in longer.items()}
    with torch.inference_mode():
        logits: Tensor = network(**batch, logits_to_keep=len(token_ids)).logits[0]
    return logits.float().cpu()


def _format_distance(distance: LogitDistance) -> str:
    return (
        f"logits differ by at most {distance.max_difference:.2g} (their deviation is "
        f"{distance.deviation:.2g}), {distance.same_tokens:.1%} of the tokens are the same"
    )
