"""Distributed strategies (single process, DDP, FSDP, DeepSpeed) and their settings."""

import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, ClassVar

from annotated_types import Ge

from palitune.distributed import collectives
from palitune.errors import DataError, check_ranges

_ACCELERATE_ENV_VAR = "ACCELERATE_DYNAMO_MODE"
"""Set by `accelerate launch` in the processes it starts, and by nothing else."""


@dataclass(kw_only=True)
class Strategy:
    """One process, or the processes that torchrun or accelerate have started (DDP)."""

    name: ClassVar[str] = "single"
    shards_frozen_layers: ClassVar[bool] = False
    """Whether each process stores only a shard of the frozen layers during training."""

    def check_requirements(self) -> None:
        """Raise DataError if a library that the strategy requires is not installed."""

    def init_process(self) -> None:
        """Configure this process for the strategy.

        Raises DataError if the number of processes, or accelerate's strategy, is another one.
        """
        by_accelerate = _ACCELERATE_ENV_VAR in os.environ and "WORLD_SIZE" not in os.environ
        # For several processes accelerate sets MASTER_PORT; with --cpu it then starts only one.
        if by_accelerate and "MASTER_PORT" in os.environ:
            raise DataError(
                "accelerate launch is configured for several processes but started one, as it does "
                "with --cpu. Use launch=ddp or torchrun instead."
            )
        self._check_accelerate_strategy()

    def _check_accelerate_strategy(self) -> None:
        for variable, title, launch in (
            ("ACCELERATE_USE_FSDP", "FSDP", Fsdp.name),
            ("ACCELERATE_USE_DEEPSPEED", "DeepSpeed", DeepSpeed.name),
        ):
            if os.environ.get(variable, "").lower() == "true" and variable not in self.env_vars():
                raise DataError(
                    f"accelerate is configured for {title}. Set launch={launch} and pass the "
                    "accelerate.yaml written by such a run."
                )

    def env_vars(self) -> dict[str, str]:
        """Return the environment variables of every process that accelerate reads."""
        return {}

    def write_accelerate_config(self, folder: Path) -> None:
        """Write `accelerate.yaml`, with which `accelerate launch` starts the same processes."""


@dataclass(kw_only=True)
class MultiProcess(Strategy):
    """Data-parallel training in several processes on one or several machines (DDP)."""

    name: ClassVar[str] = "ddp"

    nproc_per_node: Annotated[int, Ge(1)] = 2
    """Processes per machine (torchrun's name); on a machine with GPUs each uses one of them."""
    nnodes: Annotated[int, Ge(1)] = 1
    """Machines (torchrun's name); start the same command on each, with its own launch.node_rank."""
    node_rank: Annotated[int, Ge(0)] = 0
    """Number of this machine, from 0 (torchrun's name)."""
    master_addr: str = "localhost:29400"
    """Host and free port of machine 0, HOST:PORT; used if there are several machines."""

    def __post_init__(self) -> None:
        check_ranges(self, "launch")
        if self.node_rank >= self.nnodes:
            raise ValueError(
                f"launch.node_rank must be below launch.nnodes={self.nnodes}, got {self.node_rank}."
            )
        if not self.master_addr.rpartition(":")[2].isdecimal():
            raise ValueError(f"launch.master_addr must be HOST:PORT, got {self.master_addr}.")

    @property
    def world_size(self) -> int:
        """Number of processes on all machines."""
        return self.nproc_per_node * self.nnodes

    def needs_launch(self) -> bool:
        """Return whether the processes still have to be started."""
        return "WORLD_SIZE" not in os.environ and _ACCELERATE_ENV_VAR not in os.environ

    def init_process(self) -> None:
        if (started := collectives.world_size()) != self.world_size:
            raise DataError(
                f"launch={self.name} requires {self.world_size} processes, but {started} "
                f"{'was' if started == 1 else 'were'} started. Run without torchrun and accelerate "
                f"launch, or start {self.world_size} processes (accelerate launch --cpu always "
                "starts one)."
            )
        self._check_accelerate_strategy()
        os.environ |= self.env_vars()

    def write_accelerate_config(self, folder: Path) -> None:
        import yaml  # type: ignore[import-untyped]

        command = f"accelerate launch --config_file {folder}/accelerate.yaml"
        header = f"# {command} -m palitune RECIPE --run {folder}\n"
        if self.nnodes > 1:
            header += "# On every other machine add --machine_rank=N to accelerate's options.\n"
        file = folder / "accelerate.yaml"
        file.write_text(header + yaml.safe_dump(self.accelerate_config()), encoding="utf-8")

    def accelerate_config(self) -> dict[str, Any]:
        """Return the equivalent configuration file of accelerate."""
        host, _, port = self.master_addr.rpartition(":")
        main = {"main_process_ip": host, "main_process_port": int(port)} if self.nnodes > 1 else {}
        return {
            "compute_environment": "LOCAL_MACHINE",
            "distributed_type": "MULTI_GPU" if self.world_size > 1 else "NO",
            "num_processes": self.world_size,
            "num_machines": self.nnodes,
            "machine_rank": self.node_rank,
            "rdzv_backend": "static",
            "same_network": True,
            "mixed_precision": "no",  # model.dtype and adapter settings define the precision
            **main,
        }


@dataclass(kw_only=True)
class Fsdp(MultiProcess):
    """DDP that shards the frozen layers over the processes during training (FSDP2)."""

    name: ClassVar[str] = "fsdp"
    shards_frozen_layers: ClassVar[bool] = True


@dataclass(kw_only=True)
class DeepSpeed(MultiProcess):
    """DDP that shards the optimizer state over the processes (DeepSpeed ZeRO)."""

    name: ClassVar[str] = "deepspeed"

    zero_stage: int = 2
    """ZeRO stage; 1: shard the optimizer state; 2: shard the gradients, too."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.zero_stage not in (1, 2):
            raise ValueError(
                f"launch.zero_stage must be 1 or 2, got {self.zero_stage}. Set launch=fsdp to "
                "shard weights."
            )

    def check_requirements(self) -> None:
        if find_spec("deepspeed") is None:
            raise DataError(
                "launch=deepspeed requires DeepSpeed: pip install 'palitune[deepspeed]'"
            )

    def env_vars(self) -> dict[str, str]:
        return {
            "ACCELERATE_USE_DEEPSPEED": "true",
            "ACCELERATE_DEEPSPEED_ZERO_STAGE": str(self.zero_stage),
            "ACCELERATE_DEEPSPEED_ZERO3_INIT": "false",
        }

    def accelerate_config(self) -> dict[str, Any]:
        zero = {
            "zero_stage": self.zero_stage,
            "zero3_init_flag": False,
            "deepspeed_multinode_launcher": "standard",
        }
        return {
            **super().accelerate_config(),
            "distributed_type": "DEEPSPEED",
            "deepspeed_config": zero,
        }


SINGLE_PROCESS = Strategy()

STRATEGIES: dict[str, type[Strategy]] = {
    kind.name: kind for kind in (Strategy, MultiProcess, Fsdp, DeepSpeed)
}
