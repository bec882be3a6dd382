"""Evaluate the base model, an adapter (adapter.path=...), several, or a file of predictions."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from palitune.cli.recipe import recipe
from palitune.config.recipes import Evaluate
from palitune.config.to_yaml import to_yaml
from palitune.data.dataset import load_split
from palitune.distributed.collectives import is_main_process
from palitune.evaluation.inference import generate_predictions
from palitune.evaluation.partial_predictions import open_prediction_cache
from palitune.evaluation.prediction_files import load_predictions
from palitune.evaluation.scoring import score_predictions
from palitune.evaluation.submissions import check_submission, write_submission
from palitune.models.adapters.switching import AdapterSwitcher
from palitune.models.loading import load_processor
from palitune.report.run_writer import (
    create_run_folder,
    open_tracker,
    write_comparison,
    write_results,
    write_skipped,
)

if TYPE_CHECKING:
    from palitune.data.dataset import TaskDataset
    from palitune.evaluation.prediction_records import PredictionsByDataset
    from palitune.models.adapters.switching import AdapterSwitcher


@recipe(Evaluate)
def evaluate(run: Evaluate) -> None:
    test = load_split(run.data, run.task, run.evaluation.split, allow_missing_references=True)
    check_submission(run.evaluation.submission, test)

    runs = run.per_adapter()
    if run.predictions is None:
        processor = load_processor(run.model)
        networks = AdapterSwitcher(run.model, [one.adapter for one in runs])
        answered = [generate_for_adapter(one, test, processor, networks) for one in runs]
    else:
        answered = [load_predictions(run.predictions, test, run.evaluation)]
        create_run_folder(run.output_dir, to_yaml(run), test=test)

    for one, answers in zip(runs, answered, strict=True):
        folder = Path(one.output_dir)
        write_skipped(folder, test)
        with open_tracker(one.tracking, folder):
            results = score_predictions(test, answers, one.evaluation)
            write_results(folder, one.evaluation.split, results)
        if run.evaluation.submission is not None and is_main_process():
            write_submission(folder, run.evaluation.submission, test[0], answers[0])
    if run.adapters:
        write_comparison(run.output_dir, [one.output_dir for one in runs])


def generate_for_adapter(
    run: Evaluate, test: "list[TaskDataset]", processor: Any, networks: "AdapterSwitcher"
) -> "PredictionsByDataset":
    """Have one adapter answer, or go on where it was cut off."""
    made_with = [run.model, run.adapter]
    journal = open_prediction_cache(run.output_dir, test, run.evaluation, made_with)
    network = networks.load(run.adapter)
    create_run_folder(run.output_dir, to_yaml(run), run.launch, test=test)
    return generate_predictions(network, processor, test, run.evaluation, prediction_cache=journal)


if __name__ == "__main__":
    evaluate()
