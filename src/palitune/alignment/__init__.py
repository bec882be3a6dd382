"""Tuning beyond targets: by preferences and rewards. Heavy parts are imported where called."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palitune.alignment.settings import SAMPLED, Alignment, Method

if TYPE_CHECKING:
    from palitune.data.augmentation import Augmentation
    from palitune.data.dataset import Part
    from palitune.models import Adapter
    from palitune.training import Training


def check(parts: "list[Part]", adapter: "Adapter", how: Alignment) -> list[str]:
    """Refuse what cannot be tuned, before anything is loaded; return what is tuned for.

    Raises TrainingError or, for rewards that are none of the data's, DataError.
    """
    from palitune.alignment import library

    library.check_version()
    library.check_adapter(adapter)
    if how.method is Method.dpo and how.pairs != SAMPLED:
        return [f"dpo, pairs of {how.pairs}"]
    return [f"{how.method.value}, rewards of {part.name}: {_told(part)}" for part in parts]


def _told(part: "Part") -> str:
    """Check the rewards of a part and name them."""
    rewards = part.task.reward(part.examples[:1])
    rewards.check(part.examples[0])
    return " + ".join(f"{weight:g} {name}" for name, weight in rewards.weights.items())


def train(
    network: Any,
    processor: Any,
    parts: "list[Part]",
    how: Alignment,
    settings: "Training",
    augmentation: "Augmentation",
    *,
    seed: int,
    folder: Path,
    measure: Callable[[], dict[str, float]] | None = None,
    log: Callable[[dict[str, float], int], None] | None = None,
) -> None:
    """Tune in place; see `palitune.alignment.running`."""
    from palitune.alignment import running

    run = running.Run(
        network=network, processor=processor, parts=parts, how=how, settings=settings,
        augmentation=augmentation, seed=seed, folder=folder, measure=measure, log=log,
    )  # fmt: skip
    if how.method is Method.dpo:
        running.by_preference(run)
    else:
        running.by_reward(run)


__all__ = ["Alignment", "Method", "check", "train"]
