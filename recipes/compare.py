"""Compare finished runs, and predictions of other models: tables, plots and differences."""

from pathlib import Path

from palitune.cli.recipe import recipe
from palitune.config.compose import compose
from palitune.config.recipes import Compare, Evaluate
from palitune.config.to_yaml import to_yaml


@recipe(Compare)
def compare(run: Compare) -> None:
    from palitune.data.dataset import load_split
    from palitune.evaluation.prediction_files import load_predictions, predicted_datasets
    from palitune.evaluation.scoring import score_predictions
    from palitune.report.comparison import domains
    from palitune.report.comparison.compare import compare_runs
    from palitune.report.comparison.files import print_comparison, write_comparison_files
    from palitune.report.comparison.runs import first_run
    from palitune.report.run_writer import create_run_folder, write_results

    folders, scored = run.run_folders(), run.scored_folders()
    for file, folder in scored.items():
        reference = first_run(folders)
        scoring = compose(Evaluate, EVALUATE_PREDICTIONS, run_folder=str(reference.path))
        scoring.predictions, scoring.output_dir = file, folder
        scoring.evaluation.split = reference.metrics["split"]
        splits = load_split(scoring.data, scoring.task, scoring.evaluation.split)
        datasets = predicted_datasets(file, splits)
        predictions = load_predictions(file, datasets, scoring.evaluation)
        results = score_predictions(datasets, predictions, scoring.evaluation)
        create_run_folder(folder, to_yaml(scoring), test=datasets)
        write_results(Path(folder), scoring.evaluation.split, results)
    folders += scored.values()

    if run.domains is not None:
        table = domains.compare_domains(folders, Path(run.domains), samples=run.bootstrap_samples)
        page = domains.write_domain_files(table, Path(run.output_dir))
        domains.print_domains(table, page)
    else:
        comparison = compare_runs(folders, run.baseline, bootstrap_samples=run.bootstrap_samples)
        page = write_comparison_files(comparison, Path(run.output_dir))
        print_comparison(comparison, page)


EVALUATE_PREDICTIONS = ("adapters=[]", "endpoint=null", "endpoint_model=null", "tracking=none")
"""Settings of an earlier run that predictions of another model do not have."""


if __name__ == "__main__":
    compare()
