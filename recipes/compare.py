"""Set finished runs side by side: a table, a plot, and how sure the differences are."""

from pathlib import Path

from palitune.cli.recipe import recipe
from palitune.config.recipes import Compare
from palitune.report.comparison import compare as compare_module
from palitune.report.comparison import files


@recipe(Compare)
def compare(run: Compare) -> None:
    compared = compare_module.compare_runs(
        run.runs, run.baseline, bootstrap_samples=run.bootstrap_samples
    )
    page = files.write_comparison_files(compared, Path(run.output_dir))
    files.print_comparison(compared, page)


if __name__ == "__main__":
    compare()
