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
from palitune.examples import Example
from palitune.exporting.settings import Exporting
from palitune.models.checkpoints import Model, ModelError
from palitune.models.loading import resolve_device
from palitune.models.merging import load_plain
from palitune.models.prefix_lm import normalize


@dataclass(frozen=True)
class Written:
    """What a model writes to a prompt, greedily."""

    ids: list[int]
    """EOS included, where it came."""
    logits: Tensor
    """Of every token of an answer, given what stands before it: (tokens, vocabulary) float32."""


@dataclass(frozen=True, kw_only=True)
class Distance:
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
class Parity:
    """What parity.json says."""

    dtype: str
    quantize: str
    bound: float | None
    """Of `largest`; None: not judged."""
    largest: float
    """`merged.max_difference` in standard deviations of the logits."""
    merged: Distance
    """Between the export and adapter on base, the base not quantized."""
    as_trained: Distance | None
    """Between the export and adapter on quantized base; None where training quantized nothing."""
    bits: int | None
    """Per weight of that quantized base."""
    largest_pixel_difference: float
    """Between the exported processor's pixels, in [-1, 1], and those of the training."""
    prompts: list[dict[str, str]]
    """Prompt, answer of base and adapter, answer of the export."""

    def sentences(self) -> list[str]:
        """Say it in the terminal."""
        told = [f"export against base + adapter: {_told(self.merged)}"]
        if self.as_trained:
            told.append(
                f"export against base in {self.bits} bits + adapter, as trained: "
                f"{_told(self.as_trained)}"
            )
        return told


def written(
    network: Any,
    processor: Any,
    examples: Sequence[Example],
    new_tokens: int,
    given: Sequence[Written] | None = None,
) -> list[Written]:
    """Let a model answer each example; logits are of the answers `given`, else of its own."""
    collator = Collator(processor)
    found = []
    for number, example in enumerate(examples):
        batch = {key: value.to(network.device) for key, value in collator.prompt([example]).items()}
        batch["pixel_values"] = normalize(batch["pixel_values"])
        ids = _generated(network, collator.tokenizer, batch, new_tokens)
        found.append(Written(ids, _logits(network, batch, given[number].ids if given else ids)))
    return found


def distance(reference: Sequence[Written], export: Sequence[Written]) -> Distance:
    """Compare what two models wrote, with logits of the same answers."""
    pairs = list(zip(reference, export, strict=True))
    gaps = torch.cat([(a.logits - b.logits).abs().flatten() for a, b in pairs])
    tokens = sum(max(len(a.ids), len(b.ids)) for a, b in pairs)
    same = sum(x == y for a, b in pairs for x, y in zip(a.ids, b.ids, strict=False))
    return Distance(
        max_difference=float(gaps.max()),
        mean_difference=float(gaps.mean()),
        deviation=float(torch.cat([a.logits.flatten() for a, _ in pairs]).std()),
        same_tokens=same / tokens,
        same_answers=sum(a.ids == b.ids for a, b in pairs) / len(pairs),
    )


def compare(
    folder: Path,
    processor: Any,
    examples: Sequence[Example],
    references: Sequence[Sequence[Written]],
    settings: Exporting,
    *,
    model: Model,
    bits: int | None,
) -> Parity:
    """Load an exported folder as plain transformers does and compare it.

    `references`: of base and adapter, and of quantized base and adapter where training had one of
    so many `bits`.
    """
    exported = load_plain(folder, resolve_device(model))
    own = AutoProcessor.from_pretrained(folder)
    answers = [written(exported, own, examples, settings.new_tokens, given) for given in references]
    merged, *as_trained = map(distance, references, answers)
    dtype = str(exported.lm_head.weight.dtype)
    read = partial(own.tokenizer.decode, skip_special_tokens=True)
    return Parity(
        dtype=dtype.removeprefix("torch."),
        quantize=settings.quantize.value,
        bound=settings.limit(dtype),
        largest=merged.max_difference / merged.deviation,
        merged=merged,
        as_trained=as_trained[0] if as_trained else None,
        bits=bits,
        largest_pixel_difference=pixel_difference(own, processor, examples[0]),
        prompts=[
            {"prompt": example.prefix, "trained": read(one.ids), "exported": read(other.ids)}
            for example, one, other in zip(examples, references[0], answers[0], strict=True)
        ],
    )


def pixel_difference(exported: Any, trained: Any, example: Example) -> float:
    """Compare the pixels, in [-1, 1], that both processors make of an example's images."""
    pictures = [Image.open(path).convert("RGB") for path in example.images]
    plain = exported.image_processor(images=pictures, return_tensors="pt")["pixel_values"]
    ours = normalize(Collator(trained).prompt([example])["pixel_values"])
    return float((plain - ours).abs().max())


def check(parity: Parity, place: Path) -> None:
    """Raise ModelError where the export is too far from what was trained."""
    if parity.bound is not None and not parity.largest <= parity.bound:
        raise ModelError(
            f"the export's logits are up to {parity.largest:.3g} standard deviations from those of "
            f"base and adapter, more than bound={parity.bound:g}; do not use {place}, or raise "
            "bound if parity.json there is good enough"
        )


def _generated(network: Any, tokenizer: Any, batch: Batch, new_tokens: int) -> list[int]:
    with torch.inference_mode():
        sequence = network.generate(
            **batch,
            max_new_tokens=new_tokens,
            do_sample=False,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    ids: list[int] = sequence[0, batch["input_ids"].shape[1] :].tolist()
    return ids


def _logits(network: Any, prompt: Batch, ids: list[int]) -> Tensor:
    answer = torch.tensor([ids[:-1]], dtype=torch.long, device=network.device)
    longer = {
        "input_ids": answer,
        "attention_mask": torch.ones_like(answer),
        "token_type_ids": torch.ones_like(answer),
    }
    batch = prompt | {key: torch.cat([prompt[key], more], 1) for key, more in longer.items()}
    with torch.inference_mode():
        logits: Tensor = network(**batch, logits_to_keep=len(ids)).logits[0]
    return logits.float().cpu()


def _told(distance: Distance) -> str:
    return (
        f"logits differ by at most {distance.max_difference:.2g} (their deviation is "
        f"{distance.deviation:.2g}), {distance.same_tokens:.1%} of the tokens are the same"
    )
