"""Tuning beyond targets: by preferences and rewards. Heavy parts are imported where called."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palitune.alignment.settings import Alignment, Method

if TYPE_CHECKING:
    from palitune.data.augmentation import Augmentation
    from palitune.data.dataset import Part
    from palitune.models import Adapter
    from palitune.training import Training


def check(parts: "list[Part]", adapter: "Adapter", how: Alignment) -> list[str]:
    """Refuse what cannot be tuned, before anything is loaded; return what is tuned for.

    Raises TrainingError.
    """
    from palitune.alignment import library

    library.check_version()
    library.check_adapter(adapter)
    return [
        f"{how.method.value}, rewards of {part.name}: "
        + " + ".join(f"{weight:g} {name}" for name, weight in part.task.reward().weights.items())
        for part in parts
    ]


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
