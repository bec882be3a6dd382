"""Jobs of a sweep: the interface of grid and search, `sweep.json`, and the printed summary."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from palitune.codec.parsing import format_json, parse_json
from palitune.config.compose import compose
from palitune.config.data_folder import recognize_data_path
from palitune.config.overrides import expand_sweep
from palitune.config.recipes import RecipeConfig
from palitune.config.search_space import Domain
from palitune.errors import FAILED, DataError, print_error
from palitune.paths import write_atomically

SWEEP_FILE = "sweep.json"


@dataclass(frozen=True)
class SweepRequest:
    """Command line of a sweep."""

    schema: type[RecipeConfig]
    overrides: Sequence[str]
    config_dir: str | None
    run_folder: str | None
    command: Sequence[str]
    """Arguments of the Python interpreter that run the recipe; the overrides of a job are added."""

    def compose(self, overrides: Sequence[str]) -> RecipeConfig:
        """Compose the run of a job."""
        return compose(self.schema, overrides, self.config_dir, self.run_folder)

    def recognized(self, overrides: Sequence[str]) -> list[str]:
        """Return the overrides of a job with the format of its `data.path`, if none is named."""
        return recognize_data_path(self.schema, overrides, self.run_folder)

    def first_recognized(self) -> list[str]:
        """Return the overrides of the first job whose folder of data is recognized.

        Raises:
            DataError: No folder is; the error is that of the first.
        """
        first_error: DataError | None = None
        for overrides, _ in expand_sweep(self.overrides, self.config_dir):
            try:
                return self.recognized(overrides)
            except DataError as error:
                first_error = first_error or error
        assert first_error is not None
        raise first_error


@dataclass(kw_only=True)
class Job:
    """One run of a sweep."""

    overrides: Sequence[str]
    label: str
    """Overrides that vary between jobs, e.g. `adapter.rank=8`."""
    folder: Path
    arguments: Sequence[str] = ()
    """Further overrides of this call, which are no part of the job."""
    state: str = "waiting"
    """waiting | done | failed | interrupted."""
    error: str = ""
    """Error message of a failed job."""


class Sweep(Protocol):
    """Source of jobs: a grid or a search."""

    folder: Path
    num_jobs: int

    def jobs(self) -> Iterator[Job]:
        """Yield the jobs; the next one is requested when a runner is free."""

    def on_job_update(self, job: Job) -> None:
        """Record a job whose state has changed. Raises DataError if the sweep cannot continue."""

    def finish(self) -> int:
        """Print the summary and return the exit code."""


def bound_overrides(domains: Mapping[str, Domain]) -> tuple[list[str], list[str]]:
    """Return the overrides that set each setting to its first value, and to its last."""
    bounds = [(key, *domain.bounds()) for key, domain in domains.items()]
    return [f"{key}={low}" for key, low, _ in bounds], [f"{key}={high}" for key, _, high in bounds]


def write_sweep_file(folder: Path, recipe: str, jobs: Sequence[Job]) -> None:
    """Write `sweep.json`: the state of each job so far."""
    records = [
        {
            "folder": job.folder.name,
            "label": job.label,
            "state": job.state,
            "error": job.error,
            "overrides": list(job.overrides),
        }
        for job in jobs
    ]
    text = format_json({"recipe": recipe, "jobs": records}, indent=2)
    with write_atomically(folder / SWEEP_FILE) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_sweep_file(folder: Path, recipe: str) -> list[Job]:
    """Return the jobs of an earlier call; none if there was none.

    Raises:
        DataError: The file is damaged, or of a sweep of another recipe.
    """
    file = folder / SWEEP_FILE
    if not file.is_file():
        return []
    try:
        content = parse_json(file.read_bytes())
        jobs = [_read_job(folder, record) for record in content["jobs"]]
        earlier = content["recipe"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file} is damaged ({error}). Set another output_dir.") from error
    if earlier != recipe:
        raise DataError(f"{file} must be of {recipe}, got {earlier}. Set another output_dir.")
    return jobs


def _read_job(folder: Path, record: dict[str, Any]) -> Job:
    """Return a job of `sweep.json`. Raises ValueError if a field is not as it was written."""
    texts = [record["label"], record["folder"], record["state"], record["error"]]
    overrides = record["overrides"]
    if not isinstance(overrides, list) or not all(isinstance(t, str) for t in texts + overrides):
        raise ValueError(f"job {record['label']!r} has a field of another type")
    label, name, state, error = texts
    if Path(name).name != name:
        raise ValueError(f"folder {name!r} is no name in the folder of the sweep")
    return Job(overrides=overrides, label=label, folder=folder / name, state=state, error=error)


def print_summary(folder: Path, jobs: Sequence[Job]) -> int:
    """Print the number of finished jobs, a command to compare them, and the failures."""
    failed = [job for job in jobs if job.state == "failed"]
    done = sum(job.state == "done" for job in jobs)
    print(f"sweep: {done} of {len(jobs)} jobs done, in {folder}")
    if any((job.folder / "metrics.json").is_file() for job in jobs):
        print(f"compare: palitune compare {shlex.quote(str(folder))}")
    if failed:
        errors = "; ".join(f"{job.label} ({job.error})" for job in failed)
        print_error(f"{len(failed)} of {len(jobs)} jobs failed: {errors}")
    return FAILED if failed else 0
