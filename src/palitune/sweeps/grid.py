"""A sweep over every combination of values."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from palitune.config.overrides import expand_sweep, quote_value
from palitune.config.recipes import RecipeConfig
from palitune.report.naming import folder_names, shorten_to_differences
from palitune.sweeps.sweep import Job, SweepRequest, print_summary, write_sweep_file


class Grid:
    """Every combination of the values on the command line."""

    def __init__(self, request: SweepRequest) -> None:
        self.recipe = request.schema.name
        self.all_jobs: list[Job] = []
        self.run_configs: list[RecipeConfig] = []
        combinations = list(expand_sweep(request.overrides, request.config_dir))
        names = _job_folder_names([swept for _, swept in combinations])
        for (overrides, swept), name in zip(combinations, names, strict=True):
            run = request.compose(overrides)
            self.folder = self.all_jobs[0].folder.parent if self.all_jobs else Path(run.output_dir)
            run.output_dir = str(self.folder / name)
            job_overrides = [*overrides, f"output_dir={quote_value(run.output_dir)}"]
            job = Job(overrides=job_overrides, label=",".join(swept), folder=self.folder / name)
            self.all_jobs.append(job)
            self.run_configs.append(run)
        self.num_jobs = len(self.all_jobs)

    def jobs(self) -> Iterator[Job]:
        return iter(self.all_jobs)

    def on_job_update(self, job: Job) -> None:
        write_sweep_file(self.folder, self.recipe, self.all_jobs)

    def finish(self) -> int:
        return print_summary(self.folder, self.all_jobs)


def _job_folder_names(swept: Sequence[Sequence[str]]) -> list[str]:
    """Name jobs by number and swept values, e.g. `0_adapter.rank=8`; shorten paths."""
    columns = []
    for column in zip(*swept, strict=True):
        keys = [text.partition("=")[0] for text in column]
        values = shorten_to_differences([text.partition("=")[2].strip("'\"") for text in column])
        columns.append([f"{key}={value}" for key, value in zip(keys, values, strict=True)])
    return folder_names([",".join(texts) for texts in zip(*columns, strict=True)] or [""])
