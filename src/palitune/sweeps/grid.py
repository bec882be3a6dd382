"""A sweep over every combination of values."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from palitune.config.overrides import expand_sweep, quote_value
from palitune.config.recipes import Finetune, RecipeConfig
from palitune.errors import DataError
from palitune.report.naming import folder_names, shorten_to_differences
from palitune.sweeps.sweep import (
    Job,
    SweepRequest,
    print_summary,
    read_sweep_file,
    write_sweep_file,
)


class Grid:
    """Every combination of the values on the command line."""

    def __init__(self, request: SweepRequest, first_run: RecipeConfig) -> None:
        self.recipe = request.schema.name
        self.all_jobs: list[Job] = []
        self.run_configs: list[RecipeConfig] = []
        combinations = list(expand_sweep(request.overrides, request.config_dir))
        names = _job_folder_names([swept for _, swept in combinations])
        self.folder = Path(first_run.output_dir)
        earlier = {_without_folder(job): job for job in read_sweep_file(self.folder, self.recipe)}
        for (overrides, swept), name in zip(combinations, names, strict=True):
            job = Job(overrides=overrides, label=",".join(swept), folder=self.folder / name)
            self.all_jobs.append(job)
            try:
                recognized = request.recognized(overrides)
            except DataError as error:  # of one folder among many
                job.state, job.error = "failed", str(error)
                continue
            run = request.compose(recognized)
            job.overrides = recognized
            self._continue_job(job, earlier.get(_without_folder(job)), run)
            run.output_dir = str(job.folder)
            job.overrides = [*recognized, f"output_dir={quote_value(run.output_dir)}"]
            self.run_configs.append(run)
        self.num_jobs = sum(job.state == "waiting" for job in self.all_jobs)

    def jobs(self) -> Iterator[Job]:
        return (job for job in self.all_jobs if job.state == "waiting")

    def _continue_job(self, job: Job, earlier: Job | None, run: RecipeConfig) -> None:
        """Skip a job that an earlier call has finished, and resume one that it has started."""
        if earlier is None:
            return
        job.folder = earlier.folder
        if earlier.state == "done":
            job.state = "done"
        elif isinstance(run, Finetune) and run.training.resume is None:
            job.arguments = ("training.resume=auto",)

    def on_job_update(self, job: Job) -> None:
        write_sweep_file(self.folder, self.recipe, self.all_jobs)

    def finish(self) -> int:
        return print_summary(self.folder, self.all_jobs)


def _without_folder(job: Job) -> tuple[str, ...]:
    """Return the overrides of a job that do not depend on the other jobs."""
    return tuple(text for text in job.overrides if not text.startswith("output_dir="))


def _job_folder_names(swept: Sequence[Sequence[str]]) -> list[str]:
    """Name jobs by number and swept values, e.g. `0_adapter.rank=8`; shorten paths."""
    columns = []
    for column in zip(*swept, strict=True):
        keys = [text.partition("=")[0] for text in column]
        values = shorten_to_differences([text.partition("=")[2].strip("'\"") for text in column])
        columns.append([f"{key}={value}" for key, value in zip(keys, values, strict=True)])
    return folder_names([",".join(texts) for texts in zip(*columns, strict=True)] or [""])
