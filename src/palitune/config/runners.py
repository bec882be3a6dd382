"""Settings of where the jobs of a sweep run: this machine, SLURM or Ray."""

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from annotated_types import Ge

from palitune.errors import check_ranges


@dataclass(kw_only=True)
class RunnerConfig:
    """This machine."""

    name: ClassVar[str] = "local"

    max_parallel: Annotated[int, Ge(1)] = 1
    """Jobs that run at the same time; with several, their output goes to `logs` in the sweep's
    folder."""
    gpus_per_job: Annotated[int, Ge(0)] = 0
    """GPUs reserved for each job; 0: every job sees all GPUs."""

    def __post_init__(self) -> None:
        check_ranges(self, "runner")


@dataclass(kw_only=True)
class SlurmConfig(RunnerConfig):
    """A SLURM cluster, through submitit; this process waits for the jobs."""

    name: ClassVar[str] = "slurm"

    max_parallel: Annotated[int, Ge(1)] = 8
    """Jobs that are queued or run at the same time."""
    gpus_per_job: Annotated[int, Ge(0)] = 1
    """GPUs on each node of a job."""
    cluster: str = "slurm"
    """slurm, or local: processes that submitit starts on this machine, for testing."""
    partition: str | None = None
    """SLURM partition; null: the cluster's default."""
    account: str | None = None
    """SLURM account; null: the cluster's default."""
    timeout_min: Annotated[int, Ge(1)] = 1440
    """Time limit of a job in minutes. Two minutes before it the job saves a checkpoint and is
    requeued."""
    cpus_per_task: Annotated[int, Ge(1)] = 8
    """CPU cores of each process."""
    mem_gb: Annotated[int | None, Ge(1)] = None
    """Memory of each node in GiB; null: the cluster's default."""
    nodes: Annotated[int, Ge(1)] = 1
    """Nodes of each job."""
    tasks_per_node: Annotated[int, Ge(1)] = 1
    """Processes on each node, which run a job together; one per GPU."""
    setup: list[str] = field(default_factory=list)
    """Shell commands before a job, e.g. `module load cuda`."""
    additional_parameters: dict[str, Any] = field(default_factory=dict)
    """Other options of sbatch by name, e.g. qos."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cluster not in ("slurm", "local"):
            raise ValueError(f"runner.cluster must be slurm or local, got {self.cluster}")


@dataclass(kw_only=True)
class RayConfig(RunnerConfig):
    """A Ray cluster."""

    name: ClassVar[str] = "ray"

    max_parallel: Annotated[int, Ge(1)] = 8
    """Jobs that wait or run at the same time."""
    gpus_per_job: Annotated[int, Ge(0)] = 1
    """GPUs of each job."""
    cpus_per_task: Annotated[int, Ge(1)] = 8
    """CPU cores of each job."""
    address: str | None = None
    """Address of the cluster, e.g. auto; null: start Ray on this machine for the sweep."""


RUNNERS: dict[str, type[RunnerConfig]] = {
    runner.name: runner for runner in (RunnerConfig, SlurmConfig, RayConfig)
}
