"""Tunings of no length, and the log-probabilities that they take beside our own."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from palitune.alignment.config import AlignmentConfig
from palitune.alignment.run import run_alignment
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

RecordedLogProbs = tuple[torch.Tensor, torch.Tensor, int, torch.Tensor]
"""Ids and mask of (rows, tokens), how many of them are of answers, and their log-probabilities."""


def vqa_dataset(examples: Sequence[Example]) -> TaskDataset:
    named = [replace(example, component="vqa") for example in examples]
    return TaskDataset("vqa", Vqa(max_new_tokens=5), named, 1, None, "train")  # type: ignore[arg-type]


def perturbed_network(model: Local, adapter: AdapterConfig) -> Any:
    """A network whose LoRA is not at its start, so that a rounded one would be seen."""
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
    """The log-probability of each token of an answer, in one row without padding: (tokens,)."""
    prompt = collator.collate_prompts([example])
    answer, zeros = torch.tensor([ids]), torch.zeros_like(prompt["input_ids"])
    types = torch.cat([zeros, torch.ones_like(answer)], 1)
    with torch.no_grad():
        logits = network(
            input_ids=torch.cat([prompt["input_ids"], answer], 1),
            attention_mask=torch.ones_like(types),
            token_type_ids=types,
            pixel_values=prompt["pixel_values"],
            logits_to_keep=torch.cat([types[:, 1:], zeros[:, :1]], 1).bool(),
        ).logits
    return logits.float().log_softmax(-1).gather(-1, answer[0, :, None])[:, 0]


def train_with_zero_lr(
    network: Any, processor: Any, part: TaskDataset, alignment_config: AlignmentConfig, folder: Path
) -> None:
    """Take steps of no length, so that the network stays what it is."""
    settings = TrainingConfig(
        global_batch_size=4, micro_batch_size=2, max_steps=2, learning_rate=0.0, log_every=1,
        schedule=Schedule.constant, num_workers=0,
    )  # fmt: skip
    still = NoAugmentation()
    run_alignment(
        network, processor, [part], alignment_config, settings, still, seed=0, folder=folder
    )


@contextmanager
def record_log_probs() -> Iterator[list[RecordedLogProbs]]:
    """Note every log-probability that TRL's trainers take."""
    seen: list[RecordedLogProbs] = []
    plain = OnlineRLTrainer._get_per_token_logps_and_entropies

    def spy(
        self: OnlineRLTrainer, model: Any, ids: Any, mask: Any, count: int, *a: Any, **b: Any
    ) -> Any:
        found = plain(self, model, ids, mask, count, *a, **b)
        seen.append((ids, mask, count, found[0].detach()))
        return found

    OnlineRLTrainer._get_per_token_logps_and_entropies = spy  # type: ignore[method-assign]
    try:
        yield seen
    finally:
        OnlineRLTrainer._get_per_token_logps_and_entropies = plain  # type: ignore[method-assign]


def log_prob_differences(
    network: Any, processor: Any, part: TaskDataset, recorded: Sequence[RecordedLogProbs]
) -> list[float]:
    """Return for every answer how far its log-probabilities are from our own, at most."""
    network.eval()
    collator = Collator(processor)
    prompts = {
        tuple(collator.collate_prompts([one])["input_ids"][0].tolist()): one
        for one in part.examples
    }
    apart = []
    for ids, mask, count, found in recorded:
        for row, real, log_probs in zip(ids, mask.bool(), found, strict=True):
            prompt, answer = row[:-count][real[:-count]], row[-count:][real[-count:]]
            example = prompts[tuple(prompt.tolist())]
            own = teacher_forced_log_probs(network, collator, example, answer.tolist())
            apart.append(float((log_probs[: len(own)] - own).abs().max()))
    return apart
