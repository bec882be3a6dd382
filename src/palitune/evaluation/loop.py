"""One loop for every task: batches -> generate -> parse -> metric -> predictions."""

from typing import Any

from palitune import processes
from palitune.data.dataset import Part
from palitune.evaluation.answering import answer
from palitune.evaluation.judging import Results, judge, metric_names
from palitune.evaluation.settings import Evaluation


def evaluate(
    network: Any, processor: Any, parts: list[Part], settings: Evaluation, *, title: str = ""
) -> Results:
    """Generate an answer to every example of every part and judge it by the part's own metrics.

    `title` names the progress line. Where several processes evaluate, all of them get the results.
    """
    answers = answer(network, processor, parts, settings, title=title)
    return processes.by_first(lambda: judge(parts, answers, settings))


__all__ = ["Results", "evaluate", "metric_names"]
