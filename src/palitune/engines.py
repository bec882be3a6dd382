"""Who starts the processes that do a run together: the user, or torch's elastic agent for him."""

import logging
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from palitune import processes
from palitune.examples import DataError
from palitune.mistakes import FAILED, INTERRUPTED, PREEMPTED, complain


@dataclass(kw_only=True)
class Launch:
    """One process, or those that torchrun or accelerate have started."""

    name: ClassVar[str] = "none"

    def starts(self) -> bool:
        """Tell whether processes are to be started, which have not been."""
        return False

    def check(self) -> None:
        """Raise DataError where there are not as many processes as were asked for."""


@dataclass(kw_only=True)
class Processes(Launch):
    """Several processes, on one machine or on several; `finetune` and `evaluate` share the work."""

    name: ClassVar[str] = "processes"

    processes: int = 2
    """On each machine; every one has a GPU of its own where there are GPUs."""
    nodes: int = 1
    """Machines; each is given the same command, but for launch.node."""
    node: int = 0
    """The number of this machine, from 0."""
    address: str = "localhost:29400"
    """Host and free port of machine 0; read where there are several."""

    def __post_init__(self) -> None:
        for name in ("processes", "nodes"):
            if getattr(self, name) < 1:
                raise ValueError(f"launch.{name} must be at least 1, not {getattr(self, name)}")
        if not 0 <= self.node < self.nodes:
            raise ValueError(f"launch.node must be in 0 to {self.nodes - 1}, not {self.node}")
        if not self.address.rpartition(":")[2].isdecimal():
            raise ValueError(f"launch.address must be HOST:PORT, not {self.address}")

    def starts(self) -> bool:
        return "WORLD_SIZE" not in os.environ

    def check(self) -> None:
        asked = self.processes * self.nodes
        if processes.count() != asked:
            raise DataError(
                f"launch asks for {asked} processes and {processes.count()} were started; leave "
                "out torchrun or accelerate launch, or say launch=none"
            )


LAUNCHES: dict[str, type[Launch]] = {kind.name: kind for kind in (Launch, Processes)}


def start(launch: Processes, command: Sequence[str]) -> int:
    """Have Python run a command in every process of this machine; return the exit code.

    What the first process of a machine says is shown; of another one, what it failed with.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    _prepare(launch)
    alone = {"rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0", "run_id": "palitune"}
    together = {
        "rdzv_backend": "static", "rdzv_endpoint": launch.address, "run_id": "palitune",
        "rdzv_configs": {"rank": launch.node},
    }  # fmt: skip
    met: dict[str, Any] = alone if launch.nodes == 1 else together
    with tempfile.TemporaryDirectory() as folder:
        others = dict.fromkeys(range(1, launch.processes), Std.ALL)
        specs = DefaultLogsSpecs(log_dir=folder, redirects={0: Std.NONE, **others})
        config = LaunchConfig(
            min_nodes=launch.nodes, max_nodes=launch.nodes, nproc_per_node=launch.processes,
            max_restarts=0, logs_specs=specs, **met,
        )  # fmt: skip
        try:
            elastic_launch(config, sys.executable)("-u", *command)
        except ChildFailedError as failed:
            codes = {f.local_rank: f.exitcode for f in failed.failures.values()}
            return _outcome(codes, Path(folder))
        except SignalException as ended:
            return INTERRUPTED if ended.sigval is signal.SIGINT else PREEMPTED
    return 0


def _prepare(launch: Processes) -> None:
    """Refuse more processes than GPUs, and share out the cores of a machine without any."""
    import torch

    if 0 < (gpus := torch.cuda.device_count()) < launch.processes:
        raise DataError(f"launch.processes={launch.processes}, and this machine has {gpus} GPUs")
    cores = (os.cpu_count() or 1) // launch.processes
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores)))
    # A process that is told to end saves a checkpoint first, which may take longer than usual.
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "600")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)


def _outcome(codes: Mapping[int, int], folder: Path) -> int:
    """Say what the first process did not say itself, and which exit code all of it comes to."""
    for code in (PREEMPTED, INTERRUPTED):
        if code in codes.values():
            return code
    rank, code = min(codes.items())
    if code < 0:
        complain(f"process {rank} was ended by {signal.Signals(-code).name}")
    elif rank:
        said = "".join(file.read_text() for file in folder.glob(f"**/{rank}/stderr.log"))
        last = said.strip().rpartition("\n")[2].removeprefix("palitune: ")
        complain(f"process {rank}: {last}")
    return FAILED
