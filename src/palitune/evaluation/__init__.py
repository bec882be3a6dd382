"""Answers to all examples, judged by their tasks' metrics; torch comes with the first call."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palitune.evaluation.settings import Evaluation
from palitune.examples import DataError, Example
from palitune.tasks import Task
from palitune.training.faults import TrainingError
from palitune.training.settings import MINIVAL_LOSS, Training

if TYPE_CHECKING:
    from palitune.data.dataset import Part
    from palitune.evaluation.journal import Journal
    from palitune.evaluation.loop import Results
    from palitune.evaluation.prediction import Answered
    from palitune.evaluation.records import Answers


def evaluate(
    network: Any, processor: Any, parts: "list[Part]", settings: Evaluation, *, title: str = ""
) -> "Results":
    """Answer and judge; see `palitune.evaluation.loop.evaluate`."""
    from palitune.evaluation import loop

    return loop.evaluate(network, processor, parts, settings, title=title)


def open_journal(
    output_dir: str, parts: "Sequence[Part]", settings: Evaluation, made_with: Sequence[Any]
) -> "Journal":
    """Open the answers of an evaluation so far; see `palitune.evaluation.journal`."""
    from palitune.evaluation.journal import FILE, Journal, origin

    return Journal(Path(output_dir) / FILE, origin(parts, settings, made_with))


def answer(
    network: Any,
    processor: Any,
    parts: "Sequence[Part]",
    settings: Evaluation,
    *,
    journal: "Journal | None" = None,
) -> "Answers":
    """Generate answers; see `palitune.evaluation.answering.answer`."""
    from palitune.evaluation import answering

    return answering.answer(network, processor, parts, settings, journal=journal)


def saved(path: str, parts: "Sequence[Part]", settings: Evaluation) -> "Answers":
    """Read answers out of a file; see `palitune.evaluation.saved_files`."""
    from palitune.evaluation import saved_files

    return saved_files.read(Path(path), parts, settings)


def judge(parts: "Sequence[Part]", answers: "Answers", settings: Evaluation) -> "Results":
    """Judge answers in the first process; see `palitune.evaluation.judging.judge`."""
    from palitune import processes
    from palitune.evaluation import judging

    return processes.by_first(lambda: judging.judge(parts, answers, settings))


def check_submission(parts: "Sequence[Part]", settings: Evaluation) -> None:
    """Refuse data that `evaluation.submission` cannot be written for, before anything is done."""
    if settings.submission is not None:
        from palitune.evaluation import submissions

        submissions.check(settings.submission, parts)


def write_submission(
    folder: Path, parts: "Sequence[Part]", answers: "Answers", settings: Evaluation
) -> None:
    """Write `submission.json` where one is asked for; see `palitune.evaluation.submissions`."""
    from palitune import processes

    if settings.submission is not None and processes.is_first():
        from palitune.evaluation import submissions

        submissions.write(folder, settings.submission, parts[0], answers[0])


def measure(
    network: Any, processor: Any, parts: "list[Part]", settings: Evaluation, training: Training
) -> Callable[[], dict[str, float]] | None:
    """What a training measures on the way, on `training.validation_limit` examples per part.

    None where there are no parts to measure on. Raises TrainingError where `training.best_metric`
    is not among what will be measured.
    """
    if not parts:
        return None
    from palitune.evaluation import loop

    names = loop.metric_names(parts, perplexity=settings.perplexity)
    if training.best_metric not in (None, MINIVAL_LOSS, *names):
        raise TrainingError(
            f"training.best_metric: {training.best_metric!r} is not one of {', '.join(names)}"
        )
    limited = replace(settings, limit=training.validation_limit, resamples=0, slices=False)
    return lambda: evaluate(network, processor, parts, limited, title="validation").metrics


def predict(
    network: Any,
    processor: Any,
    examples: Sequence[Example],
    task: Task,
    settings: Evaluation,
    *,
    skip_unreadable: bool = False,
) -> "Iterator[Answered | DataError]":
    """See `palitune.evaluation.prediction.predict`; torch is imported on the first call."""
    from palitune.evaluation import prediction

    return prediction.predict(
        network, processor, examples, task, settings, skip_unreadable=skip_unreadable
    )


__all__ = [
    "Evaluation",
    "answer",
    "check_submission",
    "evaluate",
    "judge",
    "measure",
    "open_journal",
    "predict",
    "saved",
    "write_submission",
]
