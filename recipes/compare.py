"""Compare finished runs: tables, plots and confidence intervals of the differences."""

from pathlib import Path

from palitune.cli.recipe import recipe
from palitune.config.recipes import Compare


@recipe(Compare)
def compare(run: Compare) -> None:
    from palitune.report.comparison import domains
    from palitune.report.comparison.compare import compare_runs
    from palitune.report.comparison.files import print_comparison, write_comparison_files

    if run.domains is not None:
        table = domains.compare_domains(run.runs, Path(run.domains), samples=run.bootstrap_samples)
        page = domains.write_domain_files(table, Path(run.output_dir))
        domains.print_domains(table, page)
    else:
        comparison = compare_runs(run.runs, run.baseline, bootstrap_samples=run.bootstrap_samples)
        page = write_comparison_files(comparison, Path(run.output_dir))
        print_comparison(comparison, page)


if __name__ == "__main__":
    compare()
