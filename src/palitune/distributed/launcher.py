"""Start the processes that do a run together, with torch's elastic agent."""

import logging
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from palitune.distributed.strategies import MultiProcess
from palitune.errors import FAILED, INTERRUPTED, PREEMPTED, DataError, print_error


def launch_processes(strategy: MultiProcess, command: Sequence[str]) -> int:
    """Have Python run a command in every process of this machine; return the exit code.

    What the first process of a machine says is shown; of another one, what it failed with.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    _prepare_environment(strategy)
    alone = {"rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0", "run_id": "palitune"}
    together = {
        "rdzv_backend": "static", "rdzv_endpoint": strategy.master_addr, "run_id": "palitune",
        "rdzv_configs": {"rank": strategy.node_rank},
    }  # fmt: skip
    met: dict[str, Any] = alone if strategy.nnodes == 1 else together
    with tempfile.TemporaryDirectory() as folder:
        others = dict.fromkeys(range(1, strategy.nproc_per_node), Std.ALL)
        specs = DefaultLogsSpecs(log_dir=folder, redirects={0: Std.NONE, **others})
        config = LaunchConfig(
            min_nodes=strategy.nnodes, max_nodes=strategy.nnodes, nproc_per_node=strategy.nproc_per_node,
            max_restarts=0, logs_specs=specs, **met,
        )  # fmt: skip
        try:
            elastic_launch(config, sys.executable)("-u", *command)
        except ChildFailedError as failed:
            codes = {f.local_rank: f.exitcode for f in failed.failures.values()}
            return _exit_code(codes, Path(folder))
        except SignalException as ended:
            return INTERRUPTED if ended.sigval is signal.SIGINT else PREEMPTED
    return 0


def _prepare_environment(strategy: MultiProcess) -> None:
    """Refuse more processes than GPUs, and share out the cores of a machine without any."""
    import torch

    if 0 < (gpus := torch.cuda.device_count()) < strategy.nproc_per_node:
        raise DataError(
            f"launch.nproc_per_node={strategy.nproc_per_node}, and this machine has {gpus} GPUs"
        )
    cores = (os.cpu_count() or 1) // strategy.nproc_per_node
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores)))
    # A process that is told to end saves a checkpoint first, which may take longer than usual.
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "600")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)


def _exit_code(exit_codes: Mapping[int, int], log_dir: Path) -> int:
    """Say what the first process did not say itself, and which exit code all of it comes to."""
    for code in (PREEMPTED, INTERRUPTED):
        if code in exit_codes.values():
            return code
    rank, code = min(exit_codes.items())
    if code < 0:
        print_error(f"process {rank} was ended by {signal.Signals(-code).name}")
    elif rank:
        said = "".join(file.read_text() for file in log_dir.glob(f"**/{rank}/stderr.log"))
        last = said.strip().rpartition("\n")[2].removeprefix("palitune: ")
        print_error(f"process {rank}: {last}")
    return FAILED
