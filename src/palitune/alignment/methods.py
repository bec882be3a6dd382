"""GRPO, RLOO and DPO: their data, their arguments of TRL, and the checks before a run."""

import math
from pathlib import Path
from typing import Any

from datasets import Dataset

from palitune.alignment import preference_pairs, trl_compat
from palitune.alignment.config import SAMPLED_PAIRS, AlignmentConfig, AlignmentMethod
from palitune.alignment.preference_pairs import PairCollator, PreferencePair
from palitune.alignment.prompts import PromptOrder, shuffled_indices
from palitune.alignment.reward_scoring import RewardScorer
from palitune.alignment.rewards import TaskReward
from palitune.alignment.run import AlignmentRun
from palitune.alignment.sampling import sample_pairs
from palitune.alignment.trainers import Dpo, Grpo, Rloo
from palitune.data.dataset import TaskDataset
from palitune.data.images.augmentation import Augmentation, NoAugmentation
from palitune.distributed import collectives
from palitune.errors import TrainingError
from palitune.models.adapters.config import AdapterConfig


def check_alignment(
    datasets: list[TaskDataset], adapter: AdapterConfig, config: AlignmentConfig
) -> list[str]:
    """Check the settings before anything is loaded; return a description of the objective.

    Raises TrainingError for an unsupported adapter or version of TRL, and DataError for rewards
    that do not fit the data.
    """
    trl_compat.check_trl_version()
    trl_compat.check_adapter(adapter)
    if config.method is AlignmentMethod.dpo and config.pairs != SAMPLED_PAIRS:
        return [f"dpo, pairs of {config.pairs}"]
    return [
        f"{config.method.value}, rewards of {dataset.name}: {_describe_reward(dataset)}"
        for dataset in datasets
    ]


def _describe_reward(dataset: TaskDataset) -> str:
    """Check the reward of a component and return its weights and names."""
    reward = TaskReward(dataset.task, dataset.examples[:1])
    reward.check_applicable(dataset.examples[0])
    return " + ".join(f"{weight:g} {name}" for name, weight in reward.weights.items())


def effective_augmentation(config: AlignmentConfig, augmentation: Augmentation) -> Augmentation:
    """Return the augmentation of a method: none with DPO, whose pairs are read from a file."""
    return NoAugmentation() if config.method is AlignmentMethod.dpo else augmentation


def run_alignment(run: AlignmentRun) -> None:
    """Train a network in place with the configured method.

    Raises TrainingError if the training cannot start, diverges, or cannot write a checkpoint, and
    DataError for invalid pairs or rewards.
    """
    if run.config.method is AlignmentMethod.dpo:
        train_dpo(run)
    else:
        train_online_rl(run)


def train_online_rl(run: AlignmentRun) -> None:
    """Train with the rewards of sampled generations (GRPO or RLOO)."""
    from trl import GRPOConfig, RLOOConfig

    config, collator, training_set = run.config, run.data.collator, run.data.training_set
    prompts_per_step, rest = divmod(run.settings.global_batch_size, config.num_generations)
    if rest:
        raise TrainingError(
            "training.global_batch_size counts generations and must be a multiple of "
            f"num_generations={config.num_generations}, got {run.settings.global_batch_size}."
        )
    steps = run.num_steps(len(training_set), prompts_per_step)
    prompts = PromptOrder(training_set, steps * prompts_per_step)
    trl_arguments: dict[str, Any] = {
        "num_generations": config.num_generations,
        "num_generations_eval": 1,
        "temperature": config.temperature,
        "epsilon": config.epsilon,
        "max_completion_length": run.max_new_tokens,
        "generation_kwargs": {"suppress_tokens": [collator.image_token_id]},
        "shuffle_dataset": False,
        "dataloader_num_workers": 0,
    }
    is_grpo = config.method is AlignmentMethod.grpo
    run.train(
        Grpo if is_grpo else Rloo,
        GRPOConfig if is_grpo else RLOOConfig,
        Dataset.from_dict(
            {
                "prompt": [sample.example.prefix for sample in prompts],
                "prompt_index": list(range(len(prompts))),
            }
        ),
        samples_per_epoch=len(training_set),
        samples_per_step=prompts_per_step,
        trl_arguments=trl_arguments,
        prompts=prompts,
        collator=collator,
        scorer=RewardScorer(run.data.datasets),
        processing_class=run.processor.tokenizer,
    )


def train_dpo(run: AlignmentRun) -> None:
    """Train with preference pairs (DPO)."""
    from trl import DPOConfig

    pairs = _load_or_sample_pairs(run)
    batch_size, seed = run.settings.global_batch_size, run.data.training_set.seed
    num_rows = run.num_steps(len(pairs), batch_size) * batch_size
    order = [
        index
        for epoch in range(math.ceil(num_rows / len(pairs)))
        for index in shuffled_indices(len(pairs), seed, epoch)
    ]
    run.train(
        Dpo,
        DPOConfig,
        # TRL recognizes vision data by a column of this name.
        Dataset.from_dict({"image": order[:num_rows]}),
        samples_per_epoch=len(pairs),
        samples_per_step=batch_size,
        trl_arguments={"max_length": None},
        data_collator=PairCollator(run.data.collator, pairs),
        processing_class=run.processor,
    )


def _load_or_sample_pairs(run: AlignmentRun) -> list[PreferencePair]:
    """Read the pairs from their file; sample them first unless a resumed run has done so."""
    if run.config.pairs != SAMPLED_PAIRS:
        return preference_pairs.read_pairs(Path(run.config.pairs).expanduser())
    file = run.folder / preference_pairs.PAIRS_FILE
    if not collectives.run_on_main_process(
        lambda: run.settings.resume is not None and file.is_file()
    ):
        sample_pairs(run)
    return collectives.run_on_main_process(lambda: preference_pairs.read_pairs(file))
