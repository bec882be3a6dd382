"""Evaluate the base model, an adapter (adapter.path=...), several, or a file of predictions."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from palitune import data, evaluation, models, report
from palitune.config import Evaluate, recipe, to_yaml

if TYPE_CHECKING:
    from palitune.data.dataset import Part
    from palitune.evaluation.records import Answers
    from palitune.models.swapping import Swapping


@recipe(Evaluate)
def evaluate(run: Evaluate) -> None:
    test = data.load(run.data, run.task, run.evaluation.split, unanswered=True)
    evaluation.check_submission(test, run.evaluation)

    runs = run.of_each_adapter()
    if run.predictions is None:
        processor = models.load_processor(run.model)
        networks = models.swappable(run.model, [one.adapter for one in runs])
        answered = [ask(one, test, processor, networks) for one in runs]
    else:
        answered = [evaluation.saved(run.predictions, test, run.evaluation)]
        report.open_run(run.output_dir, to_yaml(run), test=test)

    for one, answers in zip(runs, answered, strict=True):
        folder = Path(one.output_dir)
        report.list_skipped(folder, test)
        with report.tracked(one.tracking, folder):
            results = evaluation.judge(test, answers, one.evaluation)
            report.finish(folder, one.evaluation.split, results)
        evaluation.write_submission(folder, test, answers, one.evaluation)
    if run.adapters:
        report.compare(run.output_dir, [one.output_dir for one in runs])


def ask(run: Evaluate, test: "list[Part]", processor: Any, networks: "Swapping") -> "Answers":
    """Have one adapter answer, or go on where it was cut off."""
    made_with = [run.model, run.adapter]
    journal = evaluation.open_journal(run.output_dir, test, run.evaluation, made_with)
    network = networks.load(run.adapter)
    report.open_run(run.output_dir, to_yaml(run), run.launch, test=test)
    return evaluation.answer(network, processor, test, run.evaluation, journal=journal)


if __name__ == "__main__":
    evaluate()
