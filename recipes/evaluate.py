"""Evaluate the base model, an adapter (adapter.path=...) or a file of predictions."""

from palitune import data, evaluation, models, report
from palitune.config import Evaluate, recipe, to_yaml


@recipe(Evaluate)
def evaluate(run: Evaluate) -> None:
    test = data.load(run.data, run.task, run.evaluation.split, unanswered=True)
    evaluation.check_submission(test, run.evaluation)

    if run.predictions is None:
        made_with = [run.model, run.adapter]
        journal = evaluation.open_journal(run.output_dir, test, run.evaluation, made_with)
        processor = models.load_processor(run.model)
        network = models.load_trained(run.model, run.adapter)
        folder = report.open_run(run.output_dir, to_yaml(run), run.launch, test=test)
        answers = evaluation.answer(network, processor, test, run.evaluation, journal=journal)
    else:
        answers = evaluation.saved(run.predictions, test, run.evaluation)
        folder = report.open_run(run.output_dir, to_yaml(run), test=test)

    report.list_skipped(folder, test)
    with report.tracked(run.tracking, folder):
        results = evaluation.judge(test, answers, run.evaluation)
        report.finish(folder, run.evaluation.split, results)
    evaluation.write_submission(folder, test, answers, run.evaluation)


if __name__ == "__main__":
    evaluate()
