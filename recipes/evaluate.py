"""Evaluate the base model, an adapter (adapter.path=...), several, predictions, or a server."""

from pathlib import Path

from palitune.cli.recipe import recipe
from palitune.config.recipes import Evaluate
from palitune.config.to_yaml import to_yaml


@recipe(Evaluate)
def evaluate(run: Evaluate) -> None:
    from palitune.data.dataset import load_split
    from palitune.distributed.collectives import is_main_process
    from palitune.evaluation.object_quality.thresholds import store_thresholds
    from palitune.evaluation.prediction_files import load_predictions
    from palitune.evaluation.scoring import score_predictions
    from palitune.evaluation.submissions import check_submission, write_submission
    from palitune.report import run_writer

    datasets = load_split(run.data, run.task, run.evaluation.split, allow_missing_references=True)
    check_submission(run.evaluation.submission, datasets)

    runs, predictions = run.per_adapter(), []
    if run.endpoint is not None and run.endpoint_model is not None:
        from palitune.evaluation.endpoint import compare_with_run, predict_with_endpoint

        run_writer.create_run_folder(run.output_dir, to_yaml(run), test=datasets)
        predictions.append(
            predict_with_endpoint(run.endpoint, run.endpoint_model, datasets, run.evaluation)
        )
    elif run.predictions is not None:
        predictions.append(load_predictions(run.predictions, datasets, run.evaluation))
        run_writer.create_run_folder(run.output_dir, to_yaml(run), test=datasets)
    else:  # imports that take seconds
        from palitune.evaluation import partial_predictions
        from palitune.evaluation.evaluate import generate_predictions
        from palitune.models.adapters.switching import AdapterSwitcher
        from palitune.models.loading import describe_network, load_processor

        processor = load_processor(run.model)
        switcher = AdapterSwitcher(run.model, [each.adapter for each in runs])
        for each in runs:
            used = [each.model, each.adapter]
            cache = partial_predictions.open_cache(each.output_dir, datasets, each.evaluation, used)
            network = switcher.load(each.adapter)
            run_writer.create_run_folder(
                each.output_dir, to_yaml(each), run.launch,
                network=describe_network(network), test=datasets,
            )  # fmt: skip
            predictions.append(
                generate_predictions(network, processor, datasets, each.evaluation, cache=cache)
            )

    for each, predicted in zip(runs, predictions, strict=True):
        folder = Path(each.output_dir)
        with run_writer.open_tracker(each.tracking, folder):
            results = score_predictions(datasets, predicted, each.evaluation)
            run_writer.write_results(folder, each.evaluation.split, results)
        if run.store_thresholds and each.adapter.path is not None:
            stored = store_thresholds(each.adapter.path, results, each.evaluation.split)
            run_writer.print_checks(stored)
        if run.evaluation.submission is not None and is_main_process():
            write_submission(folder, run.evaluation.submission, datasets[0], predicted[0])
    if run.endpoint is not None and run.predictions is not None:
        expected = load_predictions(run.predictions, datasets, run.evaluation)
        comparison = compare_with_run(datasets, predictions[0], results, expected, run.evaluation)
        run_writer.print_checks(comparison.summary_lines())
        comparison.check(run.max_difference)
    if run.adapters:
        run_writer.write_comparison(run.output_dir, [each.output_dir for each in runs])


if __name__ == "__main__":
    evaluate()
