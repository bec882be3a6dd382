"""Answers drawn at random from a model, before it is tuned by them."""

import logging
import math
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
from palitune.data.visits import Visit
from palitune.training.faults import TrainingError

_log = logging.getLogger(__name__)


def sample_pairs(
    network: Any,
    collator: Collator,
    prompts: Prompts,
    scorer: Scorer,
    how: Alignment,
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
    at_once = max(processes.count(), batch_size // how.group)
    found: list[tuple[Scored, Scored]] = []
    shown: list[Sequence[Scored]] = []
    asked = 0
    with Progress(transient=True, disable=not processes.is_first()) as progress:
        work = progress.add_task("sampling pairs", total=len(prompts))
        while asked < len(prompts) and not processes.any_of(len(found) >= wanted):
            batch = [prompts[at] for at in range(asked, min(asked + at_once, len(prompts)))]
            own = batch[processes.rank() :: processes.count()]
            scored = _scored(network, collator, own, scorer, how, max_new_tokens) if own else []
            together = [group for each in processes.gathered(scored) for group in each]
            found += pairs.ranked(together, how.margin)
            shown += together[: how.shown - len(shown)]
            asked += len(batch)
            progress.update(work, completed=asked)
    processes.by_first(lambda: _keep(found, shown, asked, batch_size, wanted, how, folder))


def _keep(
    found: Sequence[tuple[Scored, Scored]],
    shown: Sequence[Sequence[Scored]],
    asked: int,
    batch_size: int,
    wanted: float,
    how: Alignment,
    folder: Path,
) -> None:
    """Write pairs and samples, and say how many pairs were found; too few are refused."""
    said = (
        f"{len(found)} of {asked} prompts gave a pair, two of {how.group} sampled answers whose "
        f"rewards are {how.margin:g} apart"
    )
    if len(found) < batch_size:
        raise TrainingError(
            f"only {said}, and a step takes {batch_size} (training.batch_size): lower margin, "
            "raise temperature, group or sampled_prompts, or take another reward (task.rewards)"
        )
    if len(found) < wanted < math.inf:
        said += f"; each is learned from {wanted / len(found):.1f} times"
    _log.info(said)
    pairs.write(folder / pairs.FILE, found)
    (folder / samples.FILE).unlink(missing_ok=True)
    samples.append(folder / samples.FILE, shown, step=0)


def _scored(
    network: Any,
    collator: Collator,
    visits: Sequence[Visit],
    scorer: Scorer,
    how: Alignment,
    max_new_tokens: int,
) -> list[Sequence[Scored]]:
    """Sample a group of answers to each prompt and judge them."""
    texts = sampled(network, collator, visits, how, max_new_tokens)
    scored = [scorer.score(text, visits[row // how.group]) for row, text in enumerate(texts)]
    return groups(scored, how.group)


def sampled(
    network: Any,
    collator: Collator,
    visits: Sequence[Visit],
    how: Alignment,
    max_new_tokens: int,
) -> list[str]:
    """Draw `how.group` answers to each prompt, one prompt after the other."""
    asked = [visit.example for visit in visits for _ in range(how.group)]
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
