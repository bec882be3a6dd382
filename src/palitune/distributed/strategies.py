"""Which engine has several processes do a run together, and what it is told."""

import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from palitune.distributed import collectives
from palitune.errors import DataError

_ACCELERATE_ENV_VAR = "ACCELERATE_DYNAMO_MODE"
"""What `accelerate launch` sets in whatever it starts, and nothing else sets."""


@dataclass(kw_only=True)
class Strategy:
    """One process, or those that torchrun or accelerate have started."""

    name: ClassVar[str] = "single"
    shards_frozen_layers: ClassVar[bool] = False
    """Whether each process keeps only a share of the frozen layers while it trains."""

    def check_requirements(self) -> None:
        """Raise DataError where something is missing that the engine needs."""

    def init_process(self) -> None:
        """Make this process one of those that were asked for.

        Raises DataError where there are not as many, or where they were told of another engine.
        """
        by_accelerate = _ACCELERATE_ENV_VAR in os.environ and "WORLD_SIZE" not in os.environ
        # Asked for several, accelerate says where they meet, and with --cpu then starts one.
        if by_accelerate and "MASTER_PORT" in os.environ:
            raise DataError(
                "accelerate launch was asked for several processes and started one, as it does "
                "with --cpu; use launch=ddp or torchrun in its place"
            )
        self._check_accelerate_strategy()

    def _check_accelerate_strategy(self) -> None:
        for variable, told, ours in (
            ("ACCELERATE_USE_FSDP", "FSDP", Fsdp.name),
            ("ACCELERATE_USE_DEEPSPEED", "DeepSpeed", DeepSpeed.name),
        ):
            if os.environ.get(variable, "").lower() == "true" and variable not in self.env_vars():
                raise DataError(
                    f"accelerate launch was told to use {told}; say launch={ours}, and give it the "
                    f"accelerate.yaml that a run with launch={ours} writes"
                )

    def env_vars(self) -> dict[str, str]:
        """What accelerate reads in the environment of every process."""
        return {}

    def write_accelerate_config(self, folder: Path) -> None:
        """Write what `accelerate launch` needs to start such a run; nothing for one process."""


@dataclass(kw_only=True)
class MultiProcess(Strategy):
    """Several processes, on one machine or on several, which share the work."""

    name: ClassVar[str] = "ddp"

    nproc_per_node: int = 2
    """On each machine; every one has a GPU of its own where there are GPUs."""
    nnodes: int = 1
    """Machines; each is given the same command, but for launch.node_rank."""
    node_rank: int = 0
    """The number of this machine, from 0."""
    master_addr: str = "localhost:29400"
    """Host and free port of machine 0; read where there are several."""

    def __post_init__(self) -> None:
        for name in ("nproc_per_node", "nnodes"):
            if getattr(self, name) < 1:
                raise ValueError(f"launch.{name} must be at least 1, not {getattr(self, name)}")
        if not 0 <= self.node_rank < self.nnodes:
            raise ValueError(
                f"launch.node_rank must be in 0 to {self.nnodes - 1}, not {self.node_rank}"
            )
        if not self.master_addr.rpartition(":")[2].isdecimal():
            raise ValueError(f"launch.master_addr must be HOST:PORT, not {self.master_addr}")

    @property
    def world_size(self) -> int:
        """Processes on all machines."""
        return self.nproc_per_node * self.nnodes

    def needs_launch(self) -> bool:
        """Tell whether processes are to be started, which have not been."""
        return "WORLD_SIZE" not in os.environ and _ACCELERATE_ENV_VAR not in os.environ

    def init_process(self) -> None:
        if (found := collectives.world_size()) != self.world_size:
            raise DataError(
                f"launch asks for {self.world_size} processes and {found} "
                f"{'was' if found == 1 else 'were'} started; leave out torchrun or accelerate "
                f"launch, or have it start {self.world_size} (accelerate launch --cpu always starts one)"
            )
        self._check_accelerate_strategy()
        os.environ |= self.env_vars()

    def write_accelerate_config(self, folder: Path) -> None:
        import yaml  # type: ignore[import-untyped]

        how = f"accelerate launch --config_file {folder}/accelerate.yaml"
        told = f"# {how} -m palitune RECIPE --run {folder}\n"
        if self.nnodes > 1:
            told += "# and on every other machine the same with its --machine_rank.\n"
        file = folder / "accelerate.yaml"
        file.write_text(told + yaml.safe_dump(self.accelerate_config()), encoding="utf-8")

    def accelerate_config(self) -> dict[str, Any]:
        """Say the same as a configuration of accelerate."""
        host, _, port = self.master_addr.rpartition(":")
        met = {"main_process_ip": host, "main_process_port": int(port)} if self.nnodes > 1 else {}
        return {
            "compute_environment": "LOCAL_MACHINE",
            "distributed_type": "MULTI_GPU" if self.world_size > 1 else "NO",
            "num_processes": self.world_size,
            "num_machines": self.nnodes,
            "machine_rank": self.node_rank,
            "rdzv_backend": "static",
            "same_network": True,
            "mixed_precision": "no",  # the precision is the base's
            **met,
        }


@dataclass(kw_only=True)
class Fsdp(MultiProcess):
    """The same, and each keeps only a share of the frozen layers while it trains (FSDP2)."""

    name: ClassVar[str] = "fsdp"
    shards_frozen_layers: ClassVar[bool] = True


@dataclass(kw_only=True)
class DeepSpeed(MultiProcess):
    """The same, and each keeps only a share of the optimizer's memory (DeepSpeed's ZeRO)."""

    name: ClassVar[str] = "deepspeed"

    zero_stage: int = 2
    """1: the optimizer's memory is shared out; 2: gradients, too."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.zero_stage not in (1, 2):
            raise ValueError(
                f"launch.zero_stage must be 1 or 2, not {self.zero_stage}; launch=fsdp shares out weights"
            )

    def check_requirements(self) -> None:
        if find_spec("deepspeed") is None:
            raise DataError("launch=deepspeed needs DeepSpeed: pip install 'palitune[deepspeed]'")

    def env_vars(self) -> dict[str, str]:
        return {
            "ACCELERATE_USE_DEEPSPEED": "true",
            "ACCELERATE_DEEPSPEED_ZERO_STAGE": str(self.zero_stage),
            "ACCELERATE_DEEPSPEED_ZERO3_INIT": "false",
        }

    def accelerate_config(self) -> dict[str, Any]:
        how = {
            "zero_stage": self.zero_stage,
            "zero3_init_flag": False,
            "deepspeed_multinode_launcher": "standard",
        }
        return {
            **super().accelerate_config(),
            "distributed_type": "DEEPSPEED",
            "deepspeed_config": how,
        }


SINGLE_PROCESS = Strategy()

STRATEGIES: dict[str, type[Strategy]] = {
    kind.name: kind for kind in (Strategy, MultiProcess, Fsdp, DeepSpeed)
}
