"""Alignment runs with a learning rate of 0, and their log-probabilities compared with ours."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from palitune.alignment.config import AlignmentConfig
from palitune.alignment.methods import run_alignment
from palitune.alignment.run import AlignmentRun
from palitune.alignment.trainers import OnlineRLTrainer
from palitune.data.collator import Collator
from palitune.data.dataset import TaskDataset
from palitune.data.images.augmentation import NoAugmentation
from palitune.models.adapters.config import AdapterConfig
from palitune.models.config import Local
from palitune.models.loading import load_for_training
from palitune.records import Example
from palitune.tasks.vqa import Vqa
from palitune.training.config import Schedule, TrainingConfig
from palitune.training.data import build_training_data

RecordedLogProbs = tuple[torch.Tensor, torch.Tensor, int, torch.Tensor]
"""input_ids and attention_mask (rows, tokens), tokens per generation, and log-probabilities."""


def vqa_dataset(examples: Sequence[Example]) -> TaskDataset:
    renamed = [replace(example, component="vqa") for example in examples]
    return TaskDataset("vqa", Vqa(max_new_tokens=5), renamed, 1, None, "train")  # type: ignore[arg-type]


def perturbed_network(model: Local, adapter: AdapterConfig) -> Any:
    """Return a network with a randomized LoRA adapter, so that rounding it would be detected."""
    torch.manual_seed(0)
    network = load_for_training(model, adapter)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.05)
    return network


def teacher_forced_log_probs(
    network: Any, collator: Collator, example: Example, ids: list[int]
) -> Any:
    """Return the log-probability of each token of one unpadded generation, (tokens,)."""
    prompt = collator.collate_prompts([example])
    generation, zeros = torch.tensor([ids]), torch.zeros_like(prompt["input_ids"])
    types = torch.cat([zeros, torch.ones_like(generation)], 1)
    with torch.no_grad():
        logits = network(
            input_ids=torch.cat([prompt["input_ids"], generation], 1),
            attention_mask=torch.ones_like(types),
            token_type_ids=types,
            pixel_values=prompt["pixel_values"],
            logits_to_keep=torch.cat([types[:, 1:], zeros[:, :1]], 1).bool(),
        ).logits
    return logits.float().log_softmax(-1).gather(-1, generation[0, :, None])[:, 0]


def train_with_zero_lr(
    network: Any,
    processor: Any,
    dataset: TaskDataset,
    alignment_config: AlignmentConfig,
    folder: Path,
) -> None:
    """Run two steps that do not change the network."""
    settings = TrainingConfig(
        global_batch_size=4, micro_batch_size=2, max_steps=2, learning_rate=0.0, log_every=1,
        schedule=Schedule.constant, num_workers=0,
    )  # fmt: skip
    data = build_training_data(processor, [dataset], settings, NoAugmentation(), seed=0)
    run = AlignmentRun(
        network=network, processor=processor, data=data, config=alignment_config,
        settings=settings, folder=folder,
    )  # fmt: skip
    run_alignment(run)


@contextmanager
def record_log_probs() -> Iterator[list[RecordedLogProbs]]:
    """Record every log-probability that TRL's trainers compute."""
    recorded: list[RecordedLogProbs] = []
    original = OnlineRLTrainer._get_per_token_logps_and_entropies

    def spy(
        self: OnlineRLTrainer, model: Any, ids: Any, mask: Any, count: int, *a: Any, **b: Any
    ) -> Any:
        result = original(self, model, ids, mask, count, *a, **b)
        recorded.append((ids, mask, count, result[0].detach()))
        return result

    OnlineRLTrainer._get_per_token_logps_and_entropies = spy  # type: ignore[method-assign]
    try:
        yield recorded
    finally:
        OnlineRLTrainer._get_per_token_logps_and_entropies = original  # type: ignore[method-assign]


def log_prob_differences(
    network: Any, processor: Any, dataset: TaskDataset, recorded: Sequence[RecordedLogProbs]
) -> list[float]:
    """Return the largest difference to our log-probabilities for every generation."""
    network.eval()
    collator = Collator(processor)
    prompts = {
        tuple(collator.collate_prompts([example])["input_ids"][0].tolist()): example
        for example in dataset.examples
    }
    differences = []
    for ids, mask, count, log_probs in recorded:
        for row, real, values in zip(ids, mask.bool(), log_probs, strict=True):
            prompt, generation = row[:-count][real[:-count]], row[-count:][real[-count:]]
            example = prompts[tuple(prompt.tolist())]
            expected = teacher_forced_log_probs(network, collator, example, generation.tolist())
            differences.append(float((values[: len(expected)] - expected).abs().max()))
    return differences
