"""Answers drawn at random from a model, before it is tuned by them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress
from transformers import GenerationConfig

from palitune import processes
from palitune.alignment import pairs, samples
from palitune.alignment.prompts import Prompts
from palitune.alignment.scoring import Scored, Scorer, groups
from palitune.alignment.settings import Alignment
from palitune.data.collator import Collator, with_own_images
from palitune.examples import Example
from palitune.training.faults import TrainingError


def sample_pairs(
    network: Any,
    collator: Collator,
    prompts: Prompts,
    scorer: Scorer,
    how: Alignment,
    folder: Path,
    *,
    wanted: int,
    batch_size: int,
    max_new_tokens: int,
) -> None:
    """Sample until there are so many pairs, or no prompts any more; write them into the folder.

    Raises TrainingError where there is no pair.
    """
    found: list[tuple[Scored, Scored]] = []
    shown: list[Sequence[Scored]] = []
    starts = range(0, len(prompts), batch_size)
    with Progress(transient=True, disable=not processes.is_first()) as progress:
        for start in progress.track(starts, description="sampling pairs"):
            batch = [prompts[at] for at in range(start, min(start + batch_size, len(prompts)))]
            own = batch[processes.rank() :: processes.count()]
            scored = _scored(network, collator, own, scorer, how, max_new_tokens) if own else []
            together = [group for each in processes.gathered(scored) for group in each]
            found += pairs.ranked(together, how.margin)
            shown += together[: how.shown - len(shown)]
            if processes.any_of(len(found) >= wanted):
                break
    if not processes.any_of(bool(found)):
        raise TrainingError(
            f"no two of {how.group} sampled answers are {how.margin} apart in reward: lower "
            "margin, raise temperature or group, or take another reward (task.rewards)"
        )
    if processes.is_first():
        pairs.write(folder / pairs.FILE, found[:wanted])
        (folder / samples.FILE).unlink(missing_ok=True)
        samples.append(folder / samples.FILE, shown, step=0)


def _scored(
    network: Any,
    collator: Collator,
    examples: Sequence[Example],
    scorer: Scorer,
    how: Alignment,
    max_new_tokens: int,
) -> list[Sequence[Scored]]:
    """Sample a group of answers to each example and judge them."""
    texts = sampled(network, collator, examples, how, max_new_tokens)
    scored = [scorer.score(text, examples[row // how.group]) for row, text in enumerate(texts)]
    return groups(scored, how.group)


def sampled(
    network: Any,
    collator: Collator,
    examples: Sequence[Example],
    how: Alignment,
    max_new_tokens: int,
) -> list[str]:
    """Draw `how.group` answers to each example, one example after the other."""
    asked = [example for example in examples for _ in range(how.group)]
    batch = with_own_images(collator.prompt(asked))
    tokenizer = collator.tokenizer
    was_training = network.training
    network.eval()
    with torch.inference_mode():
        written = network.generate(
            **{name: value.to(network.device) for name, value in batch.items()},
            generation_config=GenerationConfig(
                do_sample=True,
                temperature=how.temperature,
                top_k=0,
                max_new_tokens=max_new_tokens,
                suppress_tokens=[collator.image_token],
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            ),
        )
    network.train(was_training)
    answers = written[:, batch["input_ids"].shape[1] :].tolist()
    return [
        tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        for ids in answers
    ]
