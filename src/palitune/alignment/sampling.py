"""Answers drawn at random from a model, before it is tuned by them."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.progress import Progress
from transformers import GenerationConfig

from palitune.alignment import completion_log, preference_pairs
from palitune.alignment.config import AlignmentConfig
from palitune.alignment.prompts import PromptOrder
from palitune.alignment.reward_scoring import RewardScorer, ScoredCompletion, group_by_prompt
from palitune.data.collator import Collator, expand_image_index
from palitune.data.training_set import TrainingSample
from palitune.distributed import collectives
from palitune.errors import TrainingError
from palitune.models.modes import inference_mode

_log = logging.getLogger(__name__)


def sample_pairs(
    network: Any,
    collator: Collator,
    prompts: PromptOrder,
    scorer: RewardScorer,
    alignment_config: AlignmentConfig,
    folder: Path,
    *,
    steps: int | None,
    batch_size: int,
    max_new_tokens: int,
) -> None:
    """Ask prompt after prompt until there are pairs for so many steps, and write them down.

    Raises TrainingError where all of them give fewer pairs than one step takes.
    """
    wanted = math.inf if steps is None else steps * batch_size
    at_once = max(collectives.world_size(), batch_size // alignment_config.num_generations)
    found: list[tuple[ScoredCompletion, ScoredCompletion]] = []
    shown: list[Sequence[ScoredCompletion]] = []
    asked = 0
    with Progress(transient=True, disable=not collectives.is_main_process()) as progress:
        work = progress.add_task("sampling pairs", total=len(prompts))
        while asked < len(prompts) and not collectives.any_rank(len(found) >= wanted):
            batch = [prompts[at] for at in range(asked, min(asked + at_once, len(prompts)))]
            own = batch[collectives.rank() :: collectives.world_size()]
            scored = (
                _sample_and_score(network, collator, own, scorer, alignment_config, max_new_tokens)
                if own
                else []
            )
            together = [group for each in collectives.gather_to_main(scored) for group in each]
            found += preference_pairs.select_pairs(together, alignment_config.margin)
            shown += together[: alignment_config.log_completions - len(shown)]
            asked += len(batch)
            progress.update(work, completed=asked)
    collectives.run_on_main_process(
        lambda: _write_sampled_pairs(
            found, shown, asked, batch_size, wanted, alignment_config, folder
        )
    )


def _write_sampled_pairs(
    sampled_pairs: Sequence[tuple[ScoredCompletion, ScoredCompletion]],
    logged_groups: Sequence[Sequence[ScoredCompletion]],
    num_prompts: int,
    batch_size: int,
    pairs_needed: float,
    alignment_config: AlignmentConfig,
    folder: Path,
) -> None:
    """Write pairs and samples, and say how many pairs were found; too few are refused."""
    said = (
        f"{len(sampled_pairs)} of {num_prompts} prompts gave a pair, two of {alignment_config.num_generations} sampled answers whose "
        f"rewards are {alignment_config.margin:g} apart"
    )
    if len(sampled_pairs) < batch_size:
        raise TrainingError(
            f"only {said}, and a step takes {batch_size} (training.global_batch_size): lower margin, "
            "raise temperature, num_generations or sampled_prompts, or take another reward (task.reward_weights)"
        )
    if len(sampled_pairs) < pairs_needed < math.inf:
        said += f"; each is learned from {pairs_needed / len(sampled_pairs):.1f} times"
    _log.info(said)
    preference_pairs.write_pairs(folder / preference_pairs.PAIRS_FILE, sampled_pairs)
    (folder / completion_log.SAMPLES_FILE).unlink(missing_ok=True)
    completion_log.append_completions(folder / completion_log.SAMPLES_FILE, logged_groups, step=0)


def _sample_and_score(
    network: Any,
    collator: Collator,
    training_samples: Sequence[TrainingSample],
    scorer: RewardScorer,
    alignment_config: AlignmentConfig,
    max_new_tokens: int,
) -> list[Sequence[ScoredCompletion]]:
    """Sample a group of answers to each prompt and judge them."""
    texts = sample_completions(
        network, collator, training_samples, alignment_config, max_new_tokens
    )
    scored = [
        scorer.score(text, training_samples[row // alignment_config.num_generations])
        for row, text in enumerate(texts)
    ]
    return group_by_prompt(scored, alignment_config.num_generations)


def sample_completions(
    network: Any,
    collator: Collator,
    training_samples: Sequence[TrainingSample],
    alignment_config: AlignmentConfig,
    max_new_tokens: int,
) -> list[str]:
    """Draw `how.group` answers to each prompt, one prompt after the other."""
    asked = [
        visit.example for visit in training_samples for _ in range(alignment_config.num_generations)
    ]
    batch = expand_image_index(collator.collate_prompts(asked))
    tokenizer = collator.tokenizer
    with inference_mode(network):
        written = network.generate(
            **{name: value.to(network.device) for name, value in batch.items()},
            generation_config=GenerationConfig(
                do_sample=True,
                temperature=alignment_config.temperature,
                top_k=0,
                max_new_tokens=max_new_tokens,
                suppress_tokens=[collator.image_token_id],
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            ),
        )
    answers = written[:, batch["input_ids"].shape[1] :].tolist()
    return [
        tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        for ids in answers
    ]
