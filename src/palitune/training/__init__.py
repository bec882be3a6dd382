"""The engine: self-check, training, checkpoints. Heavy parts are imported where they are called."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palitune.training.faults import SelfCheckError, TrainingError
from palitune.training.settings import Training

if TYPE_CHECKING:
    from palitune.data.augmentation import Augmentation
    from palitune.data.dataset import Part
    from palitune.engines import Launch
    from palitune.models import Adapter

LOOKS = 200
"""Visits that the self-check looks at to tell what an augmentation does."""


def seed(number: int) -> None:
    """Seed everything random of this process: initial weights, dropout, sampling."""
    from transformers import set_seed

    set_seed(number)


def check(
    network: Any,
    processor: Any,
    parts: "list[Part]",
    settings: Training,
    augmentation: "Augmentation",
    adapter: "Adapter",
) -> list[str]:
    """Run the self-check on the real network and data; return what was checked, a sentence each.

    Raises `SelfCheckError`, TrainingError for settings that this device or adapter cannot serve, or
    DataError for over-long examples.
    """
    from palitune import data
    from palitune.data.collator import Collator
    from palitune.data.visits import Suffixes, visits_to
    from palitune.training.arguments import accumulation
    from palitune.training.holding import check_device
    from palitune.training.lengths import check_lengths, spaced
    from palitune.training.self_check import self_check
    from palitune.training.vision_cache import refuse_trained_tower

    check_device(settings, network.device)
    accumulation(settings)
    if settings.vision_cache is not None:
        refuse_trained_tower(network)
    examples = data.concatenate(parts)
    collator = Collator(processor, max_length=settings.max_length, images=settings.images)
    together = settings.suffixes is Suffixes.all
    lengths, probes = check_lengths(collator, examples, settings.max_length, together=together)
    visits = visits_to(examples, settings.suffixes, 0, augmentation)
    chosen = [visits[index] for index in probes]
    checked = self_check(network, processor, collator.train, chosen, adapter)
    remarks = dict.fromkeys(remark for part in parts for remark in part.task.remarks())
    return [lengths, *visits.remarks(spaced(len(visits), LOOKS)), *checked, *remarks]


def train(
    network: Any,
    processor: Any,
    parts: "list[Part]",
    settings: Training,
    augmentation: "Augmentation",
    launch: "Launch",
    *,
    seed: int,
    folder: Path,
    validation: "list[Part] | None" = None,
    measure: Callable[[], dict[str, float]] | None = None,
    log: Callable[[dict[str, float], int], None] | None = None,
) -> None:
    """Train in place; see `palitune.training.trainer.train`.

    `validation` is what minival is a slice of, `measure` what task metrics are measured by.
    """
    from palitune import data
    from palitune.data.collator import Collator
    from palitune.data.visits import visits_to
    from palitune.training import trainer
    from palitune.training.perplexity import MINITRAIN, MINIVAL
    from palitune.training.vision_cache import cached_collator

    collator = Collator(
        processor,
        max_length=settings.max_length,
        images=settings.images,
        image_store=settings.image_store,
    )
    visits = visits_to(
        data.concatenate(parts),
        settings.suffixes,
        seed,
        augmentation,
        by_image=settings.side_by_side > 1,
    )
    slices = {MINITRAIN: parts} | ({MINIVAL: validation} if validation else {})
    if settings.vision_cache is not None:
        collator = cached_collator(network, processor, visits, settings)
    elif collator.store:
        collator.store.announce(visits.examples)
    trainer.train(
        network, collator, visits, settings, launch, seed=seed, folder=folder, measure=measure,
        slices=slices if settings.perplexity_every else None, log=log,
    )  # fmt: skip


__all__ = ["SelfCheckError", "Training", "TrainingError", "check", "seed", "train"]
