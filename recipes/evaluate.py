"""Evaluate the base model, or an adapter (adapter.path=FOLDER), with the task's own metrics."""

from palitune import data, evaluation, models, report
from palitune.config import Evaluate, recipe, to_yaml


@recipe(Evaluate)
def evaluate(run: Evaluate) -> None:
    test = data.load(run.data, run.task, run.evaluation.split)

    processor = models.load_processor(run.model)
    network = models.load_trained(run.model, run.adapter)

    folder = report.open_run(run.output_dir, to_yaml(run), test=test)
    report.list_skipped(folder, test)

    with report.tracked(run.tracking, folder):
        results = evaluation.evaluate(network, processor, test, run.evaluation)
        report.finish(folder, run.evaluation.split, results)


if __name__ == "__main__":
    evaluate()
