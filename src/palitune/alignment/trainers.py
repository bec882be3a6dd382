"""TRL's trainers with PaliGemma's attention mask and our checkpoints.

Unchanged, they reject PaliGemma's prompts, use bidirectional attention on generations (they extend
`token_type_ids` with zeros), and round adapters of quantized base models to bf16.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import SequentialSampler
from transformers import TrainerCallback
from trl import DPOTrainer, GRPOTrainer, RLOOTrainer

from palitune.alignment.prompts import PromptOrder
from palitune.alignment.reward_scoring import (
    CompletionGroup,
    RewardScorer,
    ScoredCompletion,
    group_by_prompt,
)
from palitune.data.collator import Batch, Collator, expand_image_index
from palitune.training.callbacks import ALIGNMENT_PREFIX
from palitune.training.trainer import EvaluatingTrainer

LOGGED_NAMES = {
    "reward": "reward",
    "reward_std": "reward_std",
    "kl": "kl",
    "entropy": "entropy",
    "completions/mean_length": "mean_length",
    "completions/clipped_ratio": "clipped_ratio",
    "rewards/margins": "reward_margins",
    "rewards/accuracies": "reward_accuracies",
    "logps/chosen": "logps_chosen",
    "logps/rejected": "logps_rejected",
}
"""Logged metrics of generations or pairs: TRL's name and the name in the history."""
COMPONENT_PREFIX = "component/"
"""Prefix of the reward's components among TRL's metrics."""


class AlignmentTrainer(EvaluatingTrainer):
    """Common base of the trainers of all methods."""

    def __init__(self, *args: Any, model: Any, samples_per_epoch: int, **kwargs: Any) -> None:
        """`samples_per_epoch`: prompts or pairs per epoch; other arguments: EvaluatingTrainer."""
        original = {name: p.data for name, p in model.named_parameters() if p.requires_grad}
        super().__init__(*args, model=model, **kwargs)
        for name, parameter in model.named_parameters():
            if name in original and parameter.dtype != original[name].dtype:
                parameter.data = original[name].to(parameter.device)
        self.samples_per_epoch = samples_per_epoch

    def latest_completions(self) -> Sequence[CompletionGroup]:
        """Return the latest generations by prompt; none with DPO."""
        return []

    @property
    def data_order_settings(self) -> dict[str, int]:
        return super().data_order_settings | {"examples": self.samples_per_epoch}

    def evaluate_before_training(self) -> None:
        """Evaluate the initial model, and save it as the best checkpoint so far."""
        if self._determine_best_metric(self.evaluate(), trial=None):
            self._save_checkpoint(self.model, trial=None)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Rename TRL's metrics; drop those that are not logged, and values that are NaN."""
        trl_metrics = self._metrics["train"]
        self._metrics["train"] = defaultdict(list)
        for trl_name, values in trl_metrics.items():
            name = LOGGED_NAMES.get(trl_name)
            if trl_name.startswith(COMPONENT_PREFIX):
                name = f"reward_{trl_name.removeprefix(COMPONENT_PREFIX)}"
            valid = [value for value in values if not math.isnan(value)]
            if name and valid:
                self._metrics["train"][f"{ALIGNMENT_PREFIX}/{name}"] = valid
        super().log(logs, start_time)


class EvalBeforeTrainingCallback(TrainerCallback):  # type: ignore[misc]
    """Evaluate before the first step; the Trainer does so during and after the training."""

    def __init__(self, trainer: AlignmentTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.trainer.eval_fn is not None and not state.global_step:
            self.trainer.evaluate_before_training()


class OnlineRLTrainer(AlignmentTrainer):
    """Samples generations and computes their rewards, for GRPO and RLOO.

    A row has the prefix as plain text and an index into `prompts`, so that TRL does not use its
    code for images, which requires a chat template.
    """

    def __init__(
        self,
        *args: Any,
        prompts: PromptOrder,
        collator: Collator,
        scorer: RewardScorer,
        **kwargs: Any,
    ) -> None:
        self.prompts = prompts
        self.collator = collator
        self.scorer = scorer
        self.scored_completions: list[ScoredCompletion] = []
        """The latest generations of this process."""
        self._batch: Batch = {}
        super().__init__(*args, reward_funcs=self.compute_rewards, **kwargs)

    @property
    def data_order_settings(self) -> dict[str, int]:
        return super().data_order_settings | {"num_generations": self.num_generations}

    def latest_completions(self) -> Sequence[CompletionGroup]:
        return group_by_prompt(self.scored_completions, self.num_generations)

    def compute_rewards(
        self, completion_ids: list[list[int]], prompt_index: list[int], log_metric: Any, **_: Any
    ) -> list[float]:
        """Compute rewards; a reward function in the form that TRL calls."""
        texts = [
            self.collator.tokenizer.decode(
                ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
            for ids in completion_ids
        ]
        self.scored_completions = [
            self.scorer.score(text, self.prompts[index])
            for text, index in zip(texts, prompt_index, strict=True)
        ]
        for completion in self.scored_completions:
            for name, value in completion.reward_components.items():
                log_metric(COMPONENT_PREFIX + name, value)
        return [completion.reward for completion in self.scored_completions]

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        samples = [self.prompts[row["prompt_index"]] for row in inputs]
        examples = [sample.example for sample in samples]
        prompts = self.collator.collate_prompts(examples, [sample.transforms for sample in samples])
        self._batch = expand_image_index(prompts)
        self._batch["pixel_values"] = self._batch["pixel_values"].to(self.accelerator.device)
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        output["pixel_values"] = self._batch["pixel_values"]
        output["num_images"] = [len(example.images) for example in examples]
        self._batch = {}
        return output

    def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
        rows = zip(self._batch["input_ids"], self._batch["attention_mask"].bool(), strict=True)
        ids = [row[real].tolist() for row, real in rows]
        types = [[0] * len(row) for row in ids]
        return ids, None, {"pixel_values": self._batch["pixel_values"], "token_type_ids": types}

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        *args: Any,
        pixel_values: torch.Tensor | None = None,
        num_images: list[int] | None = None,
        token_type_ids: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """Compute log-probabilities with the mask of training: causal on the generation."""
        types = torch.zeros_like(input_ids)
        types[:, -logits_to_keep:] = 1
        if pixel_values is None:  # not in the batch until it is returned to TRL
            pixel_values = self._batch["pixel_values"]
            image_tokens = (input_ids == self.collator.image_token_id).sum(1)
            num_images = (image_tokens // self.collator.tokens_per_image).tolist()
        return super()._get_per_token_logps_and_entropies(
            model, input_ids, attention_mask, logits_to_keep, *args,
            pixel_values=pixel_values, num_images=num_images, token_type_ids=types, **kwargs,
        )  # fmt: skip


class Grpo(OnlineRLTrainer, GRPOTrainer):  # type: ignore[misc]
    pass


class Rloo(OnlineRLTrainer, RLOOTrainer):  # type: ignore[misc]
    pass


class Dpo(AlignmentTrainer, DPOTrainer):  # type: ignore[misc]
    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return SequentialSampler(self.train_dataset)


def remove_trl_state(network: Any) -> None:
    """Remove what TRL added to a network: the reference adapter and a patched forward."""
    if "ref" in network.peft_config:
        network.delete_adapter("ref")
    vars(network.get_base_model()).pop("forward", None)
