"""Generation with random PaliGemma 2 models: ours, and `generate` of transformers.

Random models never generate EOS, so the length of each answer is forced on both sides: the length
of one to twelve objects with boxes (an image of COCO has seven), with EOS as last token.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import LogitsProcessor, LogitsProcessorList

from palitune.models.adapters.fast_lora import cached_lora_weights
from palitune.models.config import Dtype
from palitune.models.generation.beam_search import BeamSearch, GreedySearch, Hypothesis
from palitune.models.generation.kv_cache import generate_tokens
from palitune.models.generation.static_kv_cache import decoder_class
from palitune.models.paligemma import PaliGemmaPrefixLM, normalize_pixels

from harness import training_steps
from harness.training_steps import BOS, EOS, FIRST_TEXT_TOKEN, IMAGE_TOKEN, PAD, Batch, ModelSize

PROMPT_LENGTHS = (9, 32, 14, 21, 12, 25, 17, 10)
"""Number of tokens of each prompt."""
ANSWER_LENGTHS = (6, 66, 30, 18, 72, 12, 42, 24)
"""Number of tokens of each answer; six per object: box, label, and separator or EOS."""

Generations = list[Hypothesis]


def synthetic_prompts(size: ModelSize, rows: int, images: int, device: str) -> Batch:
    """Return left-padded prompts of random tokens, distributed over `images` random images."""
    random = torch.Generator().manual_seed(0)
    lengths = [size.image_tokens + PROMPT_LENGTHS[row] for row in range(rows)]
    batch = {"input_ids": torch.full((rows, max(lengths)), PAD)}
    batch["attention_mask"] = torch.zeros_like(batch["input_ids"])
    for row, length in enumerate(lengths):
        prompt = torch.randint(FIRST_TEXT_TOKEN, size.vocabulary, (length,), generator=random)
        prompt[: size.image_tokens + 1] = IMAGE_TOKEN
        prompt[size.image_tokens] = BOS
        batch["input_ids"][row, -length:] = prompt
        batch["attention_mask"][row, -length:] = 1
    batch["token_type_ids"] = torch.zeros_like(batch["input_ids"])
    pixels = torch.randint(0, 256, (images, 3, size.side, size.side), generator=random)
    batch["pixel_values"] = pixels.byte()
    batch["image_index"] = torch.arange(rows) * images // rows
    return {name: tensor.to(device) for name, tensor in batch.items()}


def difference(ours: Generations, theirs: Generations) -> str | None:
    """Return the first difference of tokens, or of log-probabilities above rounding, or None."""
    for row, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        if mine.token_ids != other.token_ids:
            return f"answer {row} has other tokens"
        error = max(abs(a - b) for a, b in zip(mine.log_probs, other.log_probs, strict=True))
        if not error <= 1e-4:
            return f"log-probabilities of answer {row} differ by {error:.1e}"
    return None


def _force_eos(scores: torch.Tensor, is_last: Sequence[bool]) -> torch.Tensor:
    """Allow only EOS as last token of an answer, and only other tokens before."""
    last = torch.tensor(is_last, device=scores.device)[:, None]
    is_eos = torch.arange(scores.shape[1], device=scores.device) == EOS
    return scores.masked_fill(last != is_eos, float("-inf"))


class Ours(training_steps.Ours):
    """Palitune's decoding loop."""

    def __init__(self, folder: Path, device: str, dtype: Dtype) -> None:
        super().__init__(folder, device, dtype)
        self.network.eval()
        self.model = next(m for m in self.network.modules() if isinstance(m, PaliGemmaPrefixLM))
        self.cuda_graphs = False

    def generate(self, batch: Batch, lengths: Sequence[int], beams: int = 1) -> Generations:
        def limit(prompts: Sequence[int], written: Sequence[Any], scores: torch.Tensor) -> Any:
            pairs = zip(prompts, written, strict=True)
            return _force_eos(scores, [len(ids) + 1 == lengths[prompt] for prompt, ids in pairs])

        told = len(lengths), EOS, max(lengths)
        search = GreedySearch(*told, limit) if beams == 1 else BeamSearch(*told, beams, limit)
        decoder = decoder_class(self.model.device, cuda_graphs=self.cuda_graphs)
        with torch.inference_mode(), cached_lora_weights(self.network):
            return generate_tokens(self.model, batch, search, decoder)


class _FixedLengthProcessor(LogitsProcessor):  # type: ignore[misc]
    def __init__(self, lengths: Sequence[int], prompt: int, beams: int) -> None:
        self.lengths, self.prompt, self.beams = lengths, prompt, beams

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        token = input_ids.shape[1] - self.prompt + 1
        rows = range(len(scores))
        return _force_eos(scores, [token == self.lengths[row // self.beams] for row in rows])


class Stock(training_steps.Stock):
    """`generate` of transformers with PEFT, as a stock recipe calls it."""

    def __init__(self, folder: Path, device: str, dtype: Dtype) -> None:
        super().__init__(folder, device, dtype)
        self.network.eval()

    def generate(self, batch: Batch, lengths: Sequence[int], beams: int = 1) -> Generations:
        inputs = {name: tensor for name, tensor in batch.items() if name != "image_index"}
        inputs["pixel_values"] = normalize_pixels(batch["pixel_values"])[batch["image_index"]]
        prompt = inputs["input_ids"].shape[1]
        with torch.inference_mode():
            made = self.network.generate(
                **inputs,
                max_new_tokens=max(lengths),
                num_beams=beams,
                do_sample=False,
                logits_processor=LogitsProcessorList(
                    [_FixedLengthProcessor(lengths, prompt, beams)]
                ),
                return_dict_in_generate=True,
                output_logits=True,
            )
            probabilities = self.network.compute_transition_scores(
                made.sequences, made.logits, made.get("beam_indices"), normalize_logits=True
            )
        return [
            Hypothesis(tuple(ids[:length]), tuple(log_probs[:length]))
            for ids, log_probs, length in zip(
                made.sequences[:, prompt:].tolist(), probabilities.tolist(), lengths, strict=True
            )
        ]
