"""Evaluate the base model, an adapter (adapter.path=...), several, or a file of predictions."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from palitune.cli.recipe import recipe
from palitune.config.recipes import Evaluate
from palitune.config.to_yaml import to_yaml
from palitune.data.dataset import load_split
from palitune.distributed.collectives import is_main_process
from palitune.evaluation.evaluate import generate_predictions
from palitune.evaluation.partial_predictions import PREDICTIONS_FILE, PredictionCache, run_signature
from palitune.evaluation.prediction_files import load_predictions
from palitune.evaluation.scoring import score_predictions
from palitune.evaluation.submissions import check_submission, write_submission
from palitune.models.adapters.switching import AdapterSwitcher
from palitune.models.loading import describe_network, load_processor
from palitune.report.run_writer import (
    create_run_folder,
    open_tracker,
    write_comparison,
    write_results,
    write_skipped,
)

if TYPE_CHECKING:
    from palitune.data.dataset import TaskDataset
    from palitune.records import Prediction


@recipe(Evaluate)
def evaluate(run: Evaluate) -> None:
    datasets = load_split(run.data, run.task, run.evaluation.split, allow_missing_references=True)
    check_submission(run.evaluation.submission, datasets)

    runs = run.per_adapter()
    if run.predictions is None:
        processor = load_processor(run.model)
        switcher = AdapterSwitcher(run.model, [adapter_run.adapter for adapter_run in runs])
        predictions = [generate(adapter_run, datasets, processor, switcher) for adapter_run in runs]
    else:
        predictions = [load_predictions(run.predictions, datasets, run.evaluation)]
        create_run_folder(run.output_dir, to_yaml(run), test=datasets)

    for adapter_run, predicted in zip(runs, predictions, strict=True):
        folder = Path(adapter_run.output_dir)
        write_skipped(folder, datasets)
        with open_tracker(adapter_run.tracking, folder):
            results = score_predictions(datasets, predicted, adapter_run.evaluation)
            write_results(folder, adapter_run.evaluation.split, results)
        if run.evaluation.submission is not None and is_main_process():
            write_submission(folder, run.evaluation.submission, datasets[0], predicted[0])
    if run.adapters:
        write_comparison(run.output_dir, [adapter_run.output_dir for adapter_run in runs])


def generate(
    run: Evaluate, datasets: "list[TaskDataset]", processor: Any, switcher: AdapterSwitcher
) -> "list[list[Prediction]]":
    """Generate the predictions of one adapter, or resume an interrupted evaluation of it."""
    cache = PredictionCache(
        Path(run.output_dir) / PREDICTIONS_FILE,
        run_signature(datasets, run.evaluation, [run.model, run.adapter]),
    )
    network = switcher.load(run.adapter)
    used = describe_network(network)
    create_run_folder(run.output_dir, to_yaml(run), run.launch, network=used, test=datasets)
    return generate_predictions(
        network, processor, datasets, run.evaluation, prediction_cache=cache
    )


if __name__ == "__main__":
    evaluate()
