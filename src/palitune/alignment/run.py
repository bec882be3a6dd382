"""From settings to a trainer of TRL, and its run."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from datasets import Dataset

from palitune.alignment import preference_pairs, trl_compat
from palitune.alignment.completion_log import CompletionLogCallback
from palitune.alignment.config import SAMPLED_PAIRS, AlignmentConfig, AlignmentMethod
from palitune.alignment.preference_pairs import PairCollator
from palitune.alignment.prompts import PromptOrder, shuffled_indices
from palitune.alignment.reward_scoring import RewardScorer
from palitune.alignment.rewards import TaskReward
from palitune.alignment.sampling import sample_pairs
from palitune.alignment.trainers import (
    AlignmentTrainer,
    Dpo,
    EvalBeforeTrainingCallback,
    Grpo,
    Rloo,
    remove_trl_state,
)
from palitune.data.collator import Collator
from palitune.data.dataset import ConcatDataset, TaskDataset
from palitune.data.images.augmentation import Augmentation, NoAugmentation
from palitune.data.training_set import TargetSampling, TrainingSet, build_training_set
from palitune.distributed import collectives
from palitune.errors import TrainingError
from palitune.models.adapters.config import AdapterConfig
from palitune.training.activation_memory import ActivationMemoryCallback, check_device
from palitune.training.arguments import build_training_arguments
from palitune.training.callbacks import RichProgressCallback
from palitune.training.checkpoints import CheckpointManager
from palitune.training.config import TrainingConfig
from palitune.training.early_stopping import EarlyStoppingCallback
from palitune.training.resume import Preemption
from palitune.training.trainer import EvalFn, run_training

LogFn = Callable[[dict[str, float], int], None]


@dataclass(frozen=True, kw_only=True)
class AlignmentRun:
    """What every method is given."""

    network: Any
    processor: Any
    datasets: list[TaskDataset]
    alignment_config: AlignmentConfig
    settings: TrainingConfig
    augmentation: Augmentation
    seed: int
    folder: Path
    eval_fn: EvalFn | None
    log: LogFn | None

    @property
    def collator(self) -> Collator:
        told = self.settings
        return Collator(
            self.processor,
            max_length=told.max_length,
            resize_backend=told.resize,
            image_cache=told.image_cache,
        )

    def training_set(self, augmentation: Augmentation) -> TrainingSet:
        examples = ConcatDataset(self.datasets)
        return build_training_set(examples, TargetSampling.first, self.seed, augmentation)

    @property
    def max_new_tokens(self) -> int:
        """Tokens that an answer may have."""
        return max(part.task.max_new_tokens for part in self.datasets)

    def num_steps(self, num_samples: int, samples_per_step: int) -> int:
        """Optimizer steps, where an epoch has so many prompts or pairs, and a step so many."""
        return self.settings.max_steps or math.ceil(
            self.settings.epochs * num_samples / samples_per_step
        )

    def train(
        self,
        trainer_class: type[AlignmentTrainer],
        args_class: Any,
        dataset: Dataset,
        steps: int,
        steps_per_epoch: int,
        trl_kwargs: dict[str, Any],
        **trainer_kwargs: Any,
    ) -> None:
        """Make a trainer of its kind, `told` its own settings and `given` the rest, and train.

        `epoch`: steps between measurements where the settings do not say.
        """
        network, measure = self.network, self.eval_fn
        every = self.settings.eval_every or steps_per_epoch
        settings = replace(self.settings, eval_every=every if measure else None)
        check_device(settings, network.device)
        progress = RichProgressCallback(self.folder / "history.jsonl", self.log)
        args = build_training_arguments(
            settings, self.seed, self.folder, do_eval=measure is not None, device=network.device,
            arguments_class=args_class, max_steps=steps, beta=self.alignment_config.effective_beta, disable_dropout=True,
            gradient_checkpointing=settings.gradient_checkpointing,
            ddp_find_unused_parameters=False,
            bf16=False, **trl_kwargs,  # the precision is the base's, as in all other trainings
        )  # fmt: skip
        # TRL asks transformers for a property by the name it had before.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`")
        trainer = trainer_class(
            settings,
            CheckpointManager(self.folder / "checkpoints"),
            measure,
            model=network,
            args=args,
            train_dataset=dataset,
            eval_dataset=dataset if measure else None,  # never read: `evaluate` measures instead
            callbacks=[
                progress,
                EarlyStoppingCallback(settings),
                ActivationMemoryCallback(settings),
                Preemption(),
            ],
            **trainer_kwargs,
        )
        trainer.add_callback(EvalBeforeTrainingCallback(trainer))
        trainer.add_callback(
            CompletionLogCallback(
                self.folder, self.alignment_config.log_completions, trainer.latest_completions
            )
        )
        try:
            run_training(trainer, progress, self.folder, steps)
        finally:
            remove_trl_state(network)


def train_online_rl(run: AlignmentRun) -> None:
    """Tune by the rewards of sampled answers, with GRPO or RLOO."""
    from trl import GRPOConfig, RLOOConfig

    how, batch_size, collator = run.alignment_config, run.settings.global_batch_size, run.collator
    visits = run.training_set(run.augmentation)
    if batch_size % how.num_generations:
        raise TrainingError(
            f"training.global_batch_size {batch_size} counts answers, and {how.num_generations} of them are to one "
            f"prompt: make it a multiple of num_generations={how.num_generations}"
        )
    at_once = batch_size // how.num_generations
    steps = run.num_steps(len(visits), at_once)
    prompts = PromptOrder(visits, steps * at_once)
    prefixes = [visit.example.prefix for visit in prompts]
    rows = {"prompt": prefixes, "prompt_index": list(range(len(prompts)))}
    told = {
        "num_generations": how.num_generations,
        "num_generations_eval": 1,
        "temperature": how.temperature,
        "epsilon": how.epsilon,
        "max_completion_length": run.max_new_tokens,
        "generation_kwargs": {"suppress_tokens": [collator.image_token_id]},
        "shuffle_dataset": False,
        "dataloader_num_workers": 0,
    }
    kind, config = (Grpo, GRPOConfig) if how.method is AlignmentMethod.grpo else (Rloo, RLOOConfig)
    run.train(
        kind, config, Dataset.from_dict(rows), steps, math.ceil(len(visits) / at_once), told,
        samples_per_epoch=len(visits), prompts=prompts, collator=collator, scorer=RewardScorer(run.datasets),
        processing_class=run.processor.tokenizer,
    )  # fmt: skip


def train_dpo(run: AlignmentRun) -> None:
    """Tune by pairs of answers, with DPO."""
    from trl import DPOConfig

    found = _load_or_sample_pairs(run)
    batch_size = run.settings.global_batch_size
    steps = run.num_steps(len(found), batch_size)
    epochs = range(math.ceil(steps * batch_size / len(found)))
    order = [place for epoch in epochs for place in shuffled_indices(len(found), run.seed, epoch)]
    run.train(
        Dpo, DPOConfig, Dataset.from_dict({"image": order[: steps * batch_size]}), steps,
        math.ceil(len(found) / batch_size), {"max_length": None}, samples_per_epoch=len(found),
        data_collator=PairCollator(run.collator, found), processing_class=run.processor,
    )  # fmt: skip


def _load_or_sample_pairs(run: AlignmentRun) -> list[preference_pairs.PreferencePair]:
    """Read the pairs; sample them first, unless a resumed run has done so."""
    if run.alignment_config.pairs != SAMPLED_PAIRS:
        return preference_pairs.read_pairs(Path(run.alignment_config.pairs).expanduser())
    file, settings = run.folder / preference_pairs.PAIRS_FILE, run.settings
    is_there = collectives.run_on_main_process(
        lambda: settings.resume is not None and file.is_file()
    )
    if not is_there:
        visits = run.training_set(
            NoAugmentation()
        )  # pairs are read back from a file, without views
        prompts = PromptOrder(visits, min(len(visits), run.alignment_config.sampled_prompts))
        sample_pairs(
            run.network, run.collator, prompts, RewardScorer(run.datasets), run.alignment_config, run.folder,
            steps=settings.max_steps, batch_size=settings.global_batch_size, max_new_tokens=run.max_new_tokens,
        )  # fmt: skip
    return collectives.run_on_main_process(lambda: preference_pairs.read_pairs(file))


def check_alignment(
    datasets: list[TaskDataset], adapter: AdapterConfig, alignment_config: AlignmentConfig
) -> list[str]:
    """Refuse what cannot be tuned, before anything is loaded; return what is tuned for.

    Raises TrainingError or, for rewards that are none of the data's, DataError.
    """
    trl_compat.check_trl_version()
    trl_compat.check_adapter(adapter)
    if alignment_config.method is AlignmentMethod.dpo and alignment_config.pairs != SAMPLED_PAIRS:
        return [f"dpo, pairs of {alignment_config.pairs}"]
    return [
        f"{alignment_config.method.value}, rewards of {part.name}: {_format_rewards(part)}"
        for part in datasets
    ]


def _format_rewards(dataset: TaskDataset) -> str:
    """Check the rewards of a part and name them."""
    rewards = TaskReward(dataset.task, dataset.examples[:1])
    rewards.check_applicable(dataset.examples[0])
    return " + ".join(f"{weight:g} {name}" for name, weight in rewards.weights.items())


def run_alignment(
    network: Any,
    processor: Any,
    datasets: list[TaskDataset],
    alignment_config: AlignmentConfig,
    settings: TrainingConfig,
    augmentation: Augmentation,
    *,
    seed: int,
    folder: Path,
    eval_fn: Callable[[], dict[str, float]] | None = None,
    log: Callable[[dict[str, float], int], None] | None = None,
) -> None:
    """Tune in place; see `palitune.alignment.run`."""
    run = AlignmentRun(
        network=network, processor=processor, datasets=datasets, alignment_config=alignment_config, settings=settings,
        augmentation=augmentation, seed=seed, folder=folder, eval_fn=eval_fn, log=log,
    )  # fmt: skip
    if alignment_config.method is AlignmentMethod.dpo:
        train_dpo(run)
    else:
        train_online_rl(run)
