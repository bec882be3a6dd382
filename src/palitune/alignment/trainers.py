"""TRL's trainers under PaliGemma's mask, with our checkpoints.

Left alone they stop at PaliGemma's prompts, show every answer to itself (they continue
`token_type_ids` with zeros), and round adapters of quantized bases to bf16.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import SequentialSampler
from transformers import TrainerCallback
from trl import DPOTrainer, GRPOTrainer, RLOOTrainer

from palitune.alignment.prompts import PromptOrder
from palitune.alignment.reward_scoring import RewardScorer, ScoredCompletion, group_by_prompt
from palitune.data.collator import Batch, Collator, expand_image_index
from palitune.training.callbacks import ALIGNMENT_PREFIX
from palitune.training.trainer import EvaluatingTrainer

LOGGED_NAMES = {
    "reward": "reward",
    "reward_std": "reward_spread",
    "kl": "kl",
    "entropy": "entropy",
    "completions/mean_length": "length",
    "completions/clipped_ratio": "unfinished",
    "rewards/margins": "margin",
    "rewards/accuracies": "preferred",
    "logps/chosen": "log_probability_of_chosen",
    "logps/rejected": "log_probability_of_rejected",
}
"""What is logged, by TRL's name: numbers of sampled answers, or of pairs."""
COMPONENT_PREFIX = "component/"
"""What the names begin with under which TRL is told the components of the reward."""


class AlignmentTrainer(EvaluatingTrainer):
    """What all three have in common."""

    def __init__(self, *args: Any, model: Any, samples_per_epoch: int, **kwargs: Any) -> None:
        """`visits`: how many prompts or pairs there are before they repeat."""
        exact = {name: p.data for name, p in model.named_parameters() if p.requires_grad}
        super().__init__(*args, model=model, **kwargs)
        for name, parameter in model.named_parameters():
            if name in exact and parameter.dtype != exact[name].dtype:
                parameter.data = exact[name].to(parameter.device)
        self.samples_per_epoch = samples_per_epoch

    def latest_completions(self) -> Sequence[Sequence[ScoredCompletion]]:
        """The answers that were sampled last, by prompt; none where none are sampled."""
        return []

    @property
    def data_order_settings(self) -> dict[str, int]:
        told = {
            "examples": self.samples_per_epoch,
            "global_batch_size": self.settings.global_batch_size,
        }
        group = (
            {"num_generations": self.num_generations} if hasattr(self, "num_generations") else {}
        )
        return told | group | {"seed": self.args.seed}

    def evaluate_before_training(self) -> None:
        """Measure what is begun with; where the best is kept, it may be that."""
        if self._determine_best_metric(self.evaluate(), trial=None):
            self._save_checkpoint(self.model, trial=None)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log under our names, and leave out what was never a number."""
        found = self._metrics["train"]
        self._metrics["train"] = defaultdict(list)
        for theirs, values in found.items():
            ours = LOGGED_NAMES.get(theirs) or (
                f"reward_{theirs.removeprefix(COMPONENT_PREFIX)}"
                if theirs.startswith(COMPONENT_PREFIX)
                else None
            )
            if ours and (numbers := [value for value in values if value == value]):
                self._metrics["train"][f"{ALIGNMENT_PREFIX}/{ours}"] = numbers
        super().log(logs, start_time)


class EvalBeforeTrainingCallback(TrainerCallback):  # type: ignore[misc]
    """Measures before the first step; Trainer itself does on the way and after the last."""

    def __init__(self, trainer: AlignmentTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.trainer.eval_fn is not None and not state.global_step:
            self.trainer.evaluate_before_training()


class OnlineRLTrainer(AlignmentTrainer):
    """Samples answers and has them judged: GRPO and RLOO alike.

    A prompt is a plain text and the place of its example, so that TRL never enters its way for
    images, which needs a chat template.
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
        """The answers that were sampled last, in this process."""
        self._batch: Batch = {}
        super().__init__(*args, reward_funcs=self.compute_rewards, **kwargs)

    def latest_completions(self) -> Sequence[Sequence[ScoredCompletion]]:
        return group_by_prompt(self.scored_completions, self.num_generations)

    def compute_rewards(
        self, completion_ids: list[list[int]], prompt_index: list[int], log_metric: Any, **_: Any
    ) -> list[float]:
        """Judge sampled answers, as TRL asks for it."""
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
        for one in self.scored_completions:
            for name, value in one.reward_components.items():
                log_metric(COMPONENT_PREFIX + name, value)
        return [one.reward for one in self.scored_completions]

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        visits = [self.prompts[row["prompt_index"]] for row in inputs]
        examples = [visit.example for visit in visits]
        prompts = self.collator.collate_prompts(examples, [visit.transforms for visit in visits])
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
        """See the answer as training does: causal behind its prompt."""
        types = torch.zeros_like(input_ids)
        types[:, -logits_to_keep:] = 1
        if pixel_values is None:  # before TRL has been given them
            pixel_values = self._batch["pixel_values"]
            image = self.collator.image_token_id
            marks = (input_ids == image).sum(1) // self.collator.tokens_per_image
            num_images = marks.tolist()
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
    """Take away what TRL has put on a network: the model as it was, and a head of its own."""
    if "ref" in network.peft_config:
        network.delete_adapter("ref")
    vars(network.get_base_model()).pop("forward", None)
