"""Launch the processes of a distributed run on this machine with torch's elastic agent."""

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
    """Run a command with the Python interpreter in every process; return the exit code.

    The output of a machine's first process is shown. Of the others only the last line of stderr is
    printed, if they fail.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    _prepare_environment(strategy)
    rendezvous: dict[str, Any] = {
        "rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0", "run_id": "palitune",
    }  # fmt: skip
    if strategy.nnodes > 1:
        rendezvous |= {
            "rdzv_backend": "static", "rdzv_endpoint": strategy.master_addr,
            "rdzv_configs": {"rank": strategy.node_rank},
        }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        captured = dict.fromkeys(range(1, strategy.nproc_per_node), Std.ALL)
        config = LaunchConfig(
            min_nodes=strategy.nnodes, max_nodes=strategy.nnodes,
            nproc_per_node=strategy.nproc_per_node, max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=folder, redirects={0: Std.NONE, **captured}),
            **rendezvous,
        )  # fmt: skip
        try:
            elastic_launch(config, sys.executable)("-u", *command)
        except ChildFailedError as error:
            exit_codes = {f.local_rank: f.exitcode for f in error.failures.values()}
            return _exit_code(exit_codes, Path(folder))
        except SignalException as error:
            return INTERRUPTED if error.sigval is signal.SIGINT else PREEMPTED
    return 0


def _prepare_environment(strategy: MultiProcess) -> None:
    """Reject more processes than GPUs; without GPUs, divide the CPU cores among the processes."""
    import torch

    if 0 < (gpus := torch.cuda.device_count()) < strategy.nproc_per_node:
        raise DataError(
            f"launch.nproc_per_node must be at most {gpus}, the number of GPUs of this machine, "
            f"got {strategy.nproc_per_node}."
        )
    cores = (os.cpu_count() or 1) // strategy.nproc_per_node
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores)))
    # On SIGTERM a process saves a checkpoint first, which may exceed torch's default of 30 s.
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "600")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)


def _exit_code(exit_codes: Mapping[int, int], log_dir: Path) -> int:
    """Combine the exit codes by local rank into one; print an error not shown yet.

    If the system kills a process, the elastic agent ends the others with SIGTERM, so that they exit
    as preempted. The first cause counts.
    """
    for rank, code in sorted(exit_codes.items()):
        if code < 0 and -code not in (signal.SIGTERM, signal.SIGINT):
            reason = signal.Signals(-code).name
            if -code == signal.SIGKILL:
                reason += ", probably because memory was exhausted"
            print_error(f"process {rank} was ended by {reason}")
            return FAILED
    for code in (PREEMPTED, INTERRUPTED):
        if code in exit_codes.values():
            return code
    rank, code = min(exit_codes.items())
    if code < 0:
        print_error(f"process {rank} was ended by {signal.Signals(-code).name}")
    elif rank:
        stderr = "".join(file.read_text() for file in log_dir.glob(f"**/{rank}/stderr.log"))
        last_line = stderr.strip().rpartition("\n")[2].removeprefix("palitune: ")
        print_error(f"process {rank}: {last_line}")
    return FAILED
