"""The engine: self-check, training, checkpoints. Heavy parts are imported where they are called."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palitune.training.faults import SelfCheckError, TrainingError
from palitune.training.settings import Training

if TYPE_CHECKING:
    from palitune.data.dataset import Part
    from palitune.models import Adapter


def seed(number: int) -> None:
    """Seed everything random of this process: initial weights, dropout, sampling."""
    from transformers import set_seed

    set_seed(number)


def check(
    network: Any,
    processor: Any,
    parts: "list[Part]",
    settings: Training,
    adapter: "Adapter",
) -> list[str]:
    """Run the self-check on the real network and data; return what was checked, a sentence each.

    Raises `SelfCheckError`, TrainingError for settings that this device or adapter cannot serve, or
    DataError for over-long examples.
    """
    from palitune import data
    from palitune.data.collator import Collator
    from palitune.data.visits import Suffixes, Visits
    from palitune.training.holding import check_device
    from palitune.training.lengths import check_lengths
    from palitune.training.self_check import self_check
    from palitune.training.vision_cache import refuse_trained_tower

    check_device(settings, network.device)
    if settings.vision_cache is not None:
        refuse_trained_tower(network)
    examples = data.concatenate(parts)
    collator = Collator(processor, max_length=settings.max_length)
    together = settings.suffixes is Suffixes.all
    lengths, probes = check_lengths(collator, examples, settings.max_length, together=together)
    visits = Visits(examples, settings.suffixes, seed=0)
    chosen = [visits[index] for index in probes]
    remarks = dict.fromkeys(remark for part in parts for remark in part.task.remarks())
    return [lengths, *self_check(network, processor, collator.train, chosen, adapter), *remarks]


def train(
    network: Any,
    processor: Any,
    parts: "list[Part]",
    settings: Training,
    *,
    seed: int,
    folder: Path,
    measure: Callable[[], dict[str, float]] | None = None,
    log: Callable[[dict[str, float], int], None] | None = None,
) -> None:
    """Train in place; see `palitune.training.trainer.train`."""
    from palitune import data
    from palitune.data.collator import Collator
    from palitune.data.visits import Visits
    from palitune.training import trainer
    from palitune.training.vision_cache import cached_collator

    collator = Collator(processor, max_length=settings.max_length)
    visits = Visits(data.concatenate(parts), settings.suffixes, seed)
    if settings.vision_cache is not None:
        collator = cached_collator(network, processor, visits, settings)
    trainer.train(
        network, collator, visits, settings, seed=seed, folder=folder, measure=measure, log=log
    )


__all__ = ["SelfCheckError", "Training", "TrainingError", "check", "seed", "train"]
