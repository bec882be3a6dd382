"""Parity of an exported model with base model and adapter: logits and generated tokens."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoProcessor

from palitune.data.collator import Collator
from palitune.distributed.terminal import print_line
from palitune.errors import ModelError
from palitune.export.config import ExportConfig
from palitune.export.greedy_outputs import GreedyOutput, outputs_for_references
from palitune.models.adapters.combination import RankReduction
from palitune.models.adapters.merging import load_with_transformers
from palitune.models.config import ModelConfig
from palitune.models.devices import resolve_device
from palitune.models.paligemma import normalize_pixels
from palitune.records import Example

_FULL_RANK = "export against base + adapter of full rank"


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
    full_rank: LogitDistance | None = None
    """Export and base model with adapter of full rank; None if no LoRA has the full rank."""
    reduction: RankReduction | None = None
    """Reduction of the adapter's rank; None: not reduced."""
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
        if self.reduction:
            lines.append(
                f"rank {self.reduction.rank} keeps {self.reduction.kept_update:.1%} of the squared "
                "norm of the adapter's update"
            )
        if self.full_rank:
            lines.append(
                f"{_FULL_RANK}: {_format_distance(self.full_rank)}, "
                f"{self.full_rank.same_answers:.1%} of the answers"
            )
        if self.prompts:
            identical = len(self.prompts) - len(self.differing_answers())
            lines.append(f"{identical} of {len(self.prompts)} answers identical")
        return lines

    @property
    def differs_from_full_rank(self) -> bool:
        """Whether the rank reduction changes an answer."""
        return self.full_rank is not None and self.full_rank.same_answers < 1

    def differing_answers(self) -> list[str]:
        """Return a line for each prompt whose generations differ."""
        return [
            f"{entry['prompt']!r}: base + adapter {entry['trained']!r}, export "
            f"{entry['exported']!r}"
            for entry in self.prompts
            if entry["trained"] != entry["exported"]
        ]


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
    references: Mapping[str, Sequence[GreedyOutput]],
    settings: ExportConfig,
    model: ModelConfig,
    bits: int | None,
    reduction: RankReduction | None,
) -> ParityReport:
    """Load an exported folder with plain transformers and compare it with the references.

    Args:
        folder: Exported folder.
        processor: Processor of the base model.
        examples: Prompts.
        references: Outputs of the base model with adapter (merged), and those of
            `other_references`.
        settings: Export settings.
        model: Settings of the base model.
        bits: Bits per weight of the quantized base model.
        reduction: Reduction of the adapter's rank.
    """
    exported = load_with_transformers(folder, resolve_device(model))
    exported_processor = AutoProcessor.from_pretrained(folder)
    outputs = outputs_for_references(
        exported, exported_processor, examples, settings.max_new_tokens, list(references.values())
    )
    compared = dict(zip(references, outputs, strict=True))
    distances = {name: logit_distance(references[name], compared[name]) for name in references}
    merged = distances["merged"]
    dtype = str(exported.lm_head.weight.dtype)
    decode = partial(exported_processor.tokenizer.decode, skip_special_tokens=True)
    return ParityReport(
        dtype=dtype.removeprefix("torch."),
        quantize=settings.quantize.value,
        bound=settings.max_logit_error_for(dtype),
        largest=merged.max_difference / merged.deviation,
        merged=merged,
        as_trained=distances.get("as_trained"),
        full_rank=distances.get("full_rank"),
        reduction=reduction,
        bits=bits,
        largest_pixel_difference=max_pixel_difference(exported_processor, processor, examples[0]),
        prompts=[
            {
                "prompt": example.prefix,
                "trained": decode(trained.token_ids),
                "exported": decode(output.token_ids),
            }
            for example, trained, output in zip(
                examples, references["merged"], compared["merged"], strict=True
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
        is_lossy = line.startswith(_FULL_RANK) and parity.differs_from_full_rank
        print_line(line, *(("·", "yellow") if is_lossy else ("✓", "green")))
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


def _format_distance(distance: LogitDistance) -> str:
    return (
        f"logits differ by at most {distance.max_difference:.2g} (standard deviation of the "
        f"logits: {distance.deviation:.2g}), {distance.same_tokens:.1%} of the tokens are equal"
    )
