"""Parity of an exported model with base model and adapter: logits and generated tokens."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import AutoProcessor

from palitune.data.collator import Batch, Collator
from palitune.distributed.terminal import print_line
from palitune.errors import ModelError
from palitune.export.config import ExportConfig
from palitune.models.adapters.merging import load_with_transformers
from palitune.models.config import ModelConfig
from palitune.models.devices import resolve_device
from palitune.models.paligemma import normalize_pixels
from palitune.records import Example


@dataclass(frozen=True)
class GreedyOutput:
    """Greedy generation for one prompt."""

    token_ids: list[int]
    """Generated tokens, with EOS if it was generated."""
    logits: Tensor
    """(tokens, vocabulary) float32: logits of every token of a generation."""


@dataclass(frozen=True, kw_only=True)
class LogitDistance:
    """Difference of two models on the same prompts; logits for the same generations."""

    max_difference: float
    """Maximum over all logits."""
    mean_difference: float
    deviation: float
    """Standard deviation of the reference's logits."""
    same_tokens: float
    """Share of equal tokens in the two models' own generations."""
    same_answers: float
    """Share of equal generations."""


@dataclass(frozen=True, kw_only=True)
class ParityReport:
    """The content of parity.json."""

    dtype: str
    quantize: str
    bound: float | None
    """Limit of `largest`; None: no limit."""
    largest: float
    """`merged.max_difference` in standard deviations of the logits."""
    merged: LogitDistance
    """Export and base model with adapter, without quantization."""
    as_trained: LogitDistance | None
    """Export and quantized base model with adapter; None if training did not quantize."""
    bits: int | None
    """Bits per weight of the quantized base model."""
    largest_pixel_difference: float
    """Maximum difference between pixels, in [-1, 1], of the exported processor and of training."""
    prompts: list[dict[str, str]]
    """Prompt, generation of base model with adapter, generation of the export."""

    def summary_lines(self) -> list[str]:
        """Return sentences for the terminal and the model card."""
        lines = [f"export against base + adapter: {_format_distance(self.merged)}"]
        if self.as_trained:
            lines.append(
                f"export against base in {self.bits} bits + adapter, as trained: "
                f"{_format_distance(self.as_trained)}"
            )
        if self.prompts:
            identical = len(self.prompts) - len(self.differing_answers())
            lines.append(f"{identical} of {len(self.prompts)} answers identical")
        return lines

    def differing_answers(self) -> list[str]:
        """Return a line for each prompt whose generations differ."""
        return [
            f"{entry['prompt']!r}: base + adapter {entry['trained']!r}, export "
            f"{entry['exported']!r}"
            for entry in self.prompts
            if entry["trained"] != entry["exported"]
        ]


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


def logit_distance(
    reference: Sequence[GreedyOutput], export: Sequence[GreedyOutput]
) -> LogitDistance:
    """Compare the outputs of two models, with logits of the same generations."""
    pairs = list(zip(reference, export, strict=True))
    differences = torch.cat(
        [(expected.logits - actual.logits).abs().flatten() for expected, actual in pairs]
    )
    token_pairs = [
        pair
        for expected, actual in pairs
        for pair in zip_longest(expected.token_ids, actual.token_ids)
    ]
    return LogitDistance(
        max_difference=float(differences.max()),
        mean_difference=float(differences.mean()),
        deviation=float(torch.cat([output.logits.flatten() for output in reference]).std()),
        same_tokens=sum(a == b for a, b in token_pairs) / len(token_pairs),
        same_answers=sum(expected.token_ids == actual.token_ids for expected, actual in pairs)
        / len(pairs),
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
    """Load an exported folder with plain transformers and compare it with the references.

    Args:
        folder: Exported folder.
        processor: Processor of the base model.
        examples: Prompts.
        reference_outputs: Outputs of the base model with adapter and, if training quantized it, of
            the quantized base model with adapter.
        settings: Export settings.
        model: Settings of the base model.
        bits: Bits per weight of the quantized base model.
    """
    exported = load_with_transformers(folder, resolve_device(model))
    exported_processor = AutoProcessor.from_pretrained(folder)
    outputs = outputs_for_references(
        exported, exported_processor, examples, settings.max_new_tokens, reference_outputs
    )
    merged, *as_trained = map(logit_distance, reference_outputs, outputs)
    dtype = str(exported.lm_head.weight.dtype)
    decode = partial(exported_processor.tokenizer.decode, skip_special_tokens=True)
    return ParityReport(
        dtype=dtype.removeprefix("torch."),
        quantize=settings.quantize.value,
        bound=settings.max_logit_error_for(dtype),
        largest=merged.max_difference / merged.deviation,
        merged=merged,
        as_trained=as_trained[0] if as_trained else None,
        bits=bits,
        largest_pixel_difference=max_pixel_difference(exported_processor, processor, examples[0]),
        prompts=[
            {
                "prompt": example.prefix,
                "trained": decode(trained.token_ids),
                "exported": decode(output.token_ids),
            }
            for example, trained, output in zip(
                examples, reference_outputs[0], outputs[0], strict=True
            )
        ],
    )


def max_pixel_difference(
    exported_processor: Any, trained_processor: Any, example: Example
) -> float:
    """Return the maximum difference of the pixels, in [-1, 1], of two processors."""
    images = [Image.open(path).convert("RGB") for path in example.images]
    exported = exported_processor.image_processor(images=images, return_tensors="pt")[
        "pixel_values"
    ]
    trained = normalize_pixels(
        Collator(trained_processor).collate_prompts([example])["pixel_values"]
    )
    return float((exported - trained).abs().max())


def report_parity(parity: ParityReport, folder: Path) -> None:
    """Print the comparison, with the answers that differ.

    Raises:
        ModelError: The logit difference exceeds its limit.
    """
    assert_parity(parity, folder)
    *lines, answers = parity.summary_lines()
    for line in lines:
        print_line(line, "✓", "green")
    differing = parity.differing_answers()
    print_line(answers, *(("·", "yellow") if differing else ("✓", "green")))
    for line in differing:
        print_line(f"  {line}")


def assert_parity(parity: ParityReport, folder: Path) -> None:
    """Raise ModelError if the logit difference exceeds its limit."""
    if parity.bound is not None and not parity.largest <= parity.bound:
        raise ModelError(
            f"{folder}: logits must differ from those of base model and adapter by at most "
            f"max_logit_error={parity.bound:g} standard deviations, got {parity.largest:.3g}. Do "
            "not use the export, or increase max_logit_error if its parity.json is acceptable."
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
    ids = torch.tensor([token_ids[:-1]], dtype=torch.long, device=network.device)
    ones = torch.ones_like(ids)
    completion = {"input_ids": ids, "attention_mask": ones, "token_type_ids": ones}
    batch = prompt | {k: torch.cat([prompt[k], new], dim=1) for k, new in completion.items()}
    with torch.inference_mode():
        logits: Tensor = network(**batch, logits_to_keep=len(token_ids)).logits[0]
    return logits.float().cpu()


def _format_distance(distance: LogitDistance) -> str:
    return (
        f"logits differ by at most {distance.max_difference:.2g} (standard deviation of the "
        f"logits: {distance.deviation:.2g}), {distance.same_tokens:.1%} of the tokens are equal"
    )
