"""Start the processes that do a run together, with torch's elastic agent."""

import logging
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from palitune.engines import Processes
from palitune.examples import DataError
from palitune.mistakes import FAILED, INTERRUPTED, PREEMPTED, complain


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
