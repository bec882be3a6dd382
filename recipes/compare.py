"""Set finished runs side by side: a table, a plot, and how sure the differences are."""

from pathlib import Path

from palitune.config import Compare, recipe
from palitune.report import comparison, comparison_files


@recipe(Compare)
def compare(run: Compare) -> None:
    compared = comparison.compare(run.runs, run.baseline, resamples=run.resamples)
    page = comparison_files.write(compared, Path(run.output_dir))
    comparison_files.show(compared, page)


if __name__ == "__main__":
    compare()
