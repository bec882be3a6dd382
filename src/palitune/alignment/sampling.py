"""Sampling of generations from the initial model for the preference pairs of DPO."""

import logging
import math
from collections.abc import Sequence

from rich.progress import Progress
from transformers import GenerationConfig

from palitune.alignment import completion_log, preference_pairs
from palitune.alignment.prompts import PromptOrder
from palitune.alignment.reward_scoring import (
    CompletionGroup,
    RewardScorer,
    ScoredCompletion,
    group_by_prompt,
)
from palitune.alignment.run import AlignmentRun
from palitune.data.collator import expand_image_index
from palitune.data.training_set import TrainingSample
from palitune.distributed import collectives
from palitune.errors import TrainingError
from palitune.models.modes import inference_mode

_log = logging.getLogger(__name__)


def sample_pairs(run: AlignmentRun) -> None:
    """Sample generations until there are pairs for all steps; write the pairs to the run folder.

    Raises TrainingError if all prompts give fewer pairs than one step requires.
    """
    config, settings, training_set = run.config, run.settings, run.data.training_set
    prompts = PromptOrder(training_set, min(len(training_set), config.sampled_prompts))
    scorer = RewardScorer(run.data.datasets)
    prompts_per_round = max(
        collectives.world_size(), settings.global_batch_size // config.num_generations
    )
    pairs: list[tuple[ScoredCompletion, ScoredCompletion]] = []
    logged: list[CompletionGroup] = []
    used = 0
    with Progress(transient=True, disable=not collectives.is_main_process()) as progress:
        task = progress.add_task("sampling pairs", total=len(prompts))
        while used < len(prompts) and not collectives.any_rank(len(pairs) >= _num_required(run)):
            batch = [prompts[i] for i in range(used, min(used + prompts_per_round, len(prompts)))]
            local_batch = batch[collectives.rank() :: collectives.world_size()]
            local_groups = _sample_groups(run, scorer, local_batch) if local_batch else []
            gathered = collectives.gather_to_main(local_groups)
            groups = [group for rank_groups in gathered for group in rank_groups]
            pairs += preference_pairs.select_pairs(groups, config.margin)
            logged += groups[: config.num_completions_to_print - len(logged)]
            used += len(batch)
            progress.update(task, completed=used)
    collectives.run_on_main_process(lambda: _write_pairs(run, pairs, logged, used))


def _num_required(run: AlignmentRun) -> float:
    """Return the number of pairs in all steps; infinity if the steps depend on the pairs."""
    steps = run.settings.max_steps
    return math.inf if steps is None else steps * run.settings.global_batch_size


def _write_pairs(
    run: AlignmentRun,
    pairs: Sequence[tuple[ScoredCompletion, ScoredCompletion]],
    logged: Sequence[CompletionGroup],
    num_prompts: int,
) -> None:
    """Write the pairs and some groups for the report. Raises TrainingError for too few pairs.

    Args:
        run: The run.
        pairs: Chosen and rejected generations.
        logged: Groups of generations for `samples.jsonl`.
        num_prompts: Number of prompts that were used.
    """
    batch_size, required = run.settings.global_batch_size, _num_required(run)
    message = (
        f"{len(pairs)} of {num_prompts} prompts gave a pair, two of {run.config.num_generations} "
        f"sampled generations whose rewards differ by at least {run.config.margin:g}"
    )
    if len(pairs) < batch_size:
        raise TrainingError(
            f"only {message}, but a step requires {batch_size} (training.global_batch_size). Lower "
            "margin, raise temperature, num_generations or sampled_prompts, or set another reward "
            "(task.reward_weights)."
        )
    if len(pairs) < required < math.inf:
        message += f"; each is used {required / len(pairs):.1f} times"
    _log.info(message)
    preference_pairs.write_pairs(run.folder / preference_pairs.PAIRS_FILE, pairs)
    samples_file = run.folder / completion_log.SAMPLES_FILE
    samples_file.unlink(missing_ok=True)
    completion_log.append_completions(samples_file, logged, step=0)


def _sample_groups(
    run: AlignmentRun, scorer: RewardScorer, samples: Sequence[TrainingSample]
) -> list[CompletionGroup]:
    """Sample and score a group of generations for each prompt."""
    group_size = run.config.num_generations
    scored = [
        scorer.score(text, samples[row // group_size])
        for row, text in enumerate(_sample_texts(run, samples))
    ]
    return group_by_prompt(scored, group_size)


def _sample_texts(run: AlignmentRun, samples: Sequence[TrainingSample]) -> list[str]:
    """Sample `num_generations` generations for each prompt, in the order of the prompts."""
    network, collator, tokenizer = run.network, run.data.collator, run.data.collator.tokenizer
    examples = [sample.example for sample in samples for _ in range(run.config.num_generations)]
    batch = expand_image_index(collator.collate_prompts(examples))
    with inference_mode(network):
        sequences = network.generate(
            **{name: value.to(network.device) for name, value in batch.items()},
            generation_config=GenerationConfig(
                do_sample=True,
                temperature=run.config.temperature,
                top_k=0,
                max_new_tokens=run.max_new_tokens,
                suppress_tokens=[collator.image_token_id],
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            ),
        )
    return [
        tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        for ids in sequences[:, batch["input_ids"].shape[1] :].tolist()
    ]
