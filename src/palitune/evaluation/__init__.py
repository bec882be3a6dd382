"""One loop for every task: batches -> generate -> parse -> metric."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from palitune.evaluation.settings import Evaluation

if TYPE_CHECKING:
    from palitune.data.dataset import Part
    from palitune.evaluation.loop import Results


def evaluate(
    network: Any, processor: Any, parts: "list[Part]", settings: Evaluation, *, title: str = ""
) -> "Results":
    """See `palitune.evaluation.loop.evaluate`; torch is imported on the first call."""
    from palitune.evaluation import loop

    return loop.evaluate(network, processor, parts, settings, title=title)


def measure(
    network: Any, processor: Any, parts: "list[Part]", settings: Evaluation, limit: int | None
) -> Callable[[], dict[str, float]] | None:
    """What a training measures on the way: the metrics of `limit` examples per part.

    None where there are no parts to measure on.
    """
    if not parts:
        return None
    limited = replace(settings, limit=limit)
    return lambda: evaluate(network, processor, parts, limited, title="validation").metrics


__all__ = ["Evaluation", "evaluate", "measure"]
