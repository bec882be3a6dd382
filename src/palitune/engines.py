"""Which engine has several processes do a run together, and what it is told."""

import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from palitune import processes
from palitune.examples import DataError

_BY_ACCELERATE = "ACCELERATE_DYNAMO_MODE"
"""What `accelerate launch` sets in whatever it starts, and nothing else sets."""


@dataclass(kw_only=True)
class Launch:
    """One process, or those that torchrun or accelerate have started."""

    name: ClassVar[str] = "none"
    shares_layers: ClassVar[bool] = False
    """Whether each process keeps only a share of the frozen layers while it trains."""

    def check(self) -> None:
        """Raise DataError where something is missing that the engine needs."""

    def join(self) -> None:
        """Make this process one of those that were asked for.

        Raises DataError where there are not as many, or where they were told of another engine.
        """
        by_accelerate = _BY_ACCELERATE in os.environ and "WORLD_SIZE" not in os.environ
        # Asked for several, accelerate says where they meet, and with --cpu then starts one.
        if by_accelerate and "MASTER_PORT" in os.environ:
            raise DataError(
                "accelerate launch was asked for several processes and started one, as it does "
                "with --cpu; use launch=processes or torchrun in its place"
            )
        self._refuse_other_engines()

    def _refuse_other_engines(self) -> None:
        for variable, told, ours in (
            ("ACCELERATE_USE_FSDP", "FSDP", Fsdp.name),
            ("ACCELERATE_USE_DEEPSPEED", "DeepSpeed", DeepSpeed.name),
        ):
            if os.environ.get(variable, "").lower() == "true" and variable not in self.variables():
                raise DataError(
                    f"accelerate launch was told to use {told}; say launch={ours}, and give it the "
                    f"accelerate.yaml that a run with launch={ours} writes"
                )

    def variables(self) -> dict[str, str]:
        """What accelerate reads in the environment of every process."""
        return {}

    def write(self, folder: Path) -> None:
        """Write what `accelerate launch` needs to start such a run; nothing for one process."""


@dataclass(kw_only=True)
class Processes(Launch):
    """Several processes, on one machine or on several, which share the work."""

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

    @property
    def asked(self) -> int:
        """Processes on all machines."""
        return self.processes * self.nodes

    def starts(self) -> bool:
        """Tell whether processes are to be started, which have not been."""
        return "WORLD_SIZE" not in os.environ and _BY_ACCELERATE not in os.environ

    def join(self) -> None:
        if (found := processes.count()) != self.asked:
            raise DataError(
                f"launch asks for {self.asked} processes and {found} "
                f"{'was' if found == 1 else 'were'} started; leave out torchrun or accelerate "
                f"launch, or have it start {self.asked} (accelerate launch --cpu always starts one)"
            )
        self._refuse_other_engines()
        os.environ |= self.variables()

    def write(self, folder: Path) -> None:
        import yaml  # type: ignore[import-untyped]

        how = f"accelerate launch --config_file {folder}/accelerate.yaml"
        told = f"# {how} -m palitune RECIPE --run {folder}\n"
        if self.nodes > 1:
            told += "# and on every other machine the same with its --machine_rank.\n"
        file = folder / "accelerate.yaml"
        file.write_text(told + yaml.safe_dump(self.accelerate()), encoding="utf-8")

    def accelerate(self) -> dict[str, Any]:
        """Say the same as a configuration of accelerate."""
        host, _, port = self.address.rpartition(":")
        met = {"main_process_ip": host, "main_process_port": int(port)} if self.nodes > 1 else {}
        return {
            "compute_environment": "LOCAL_MACHINE",
            "distributed_type": "MULTI_GPU" if self.asked > 1 else "NO",
            "num_processes": self.asked,
            "num_machines": self.nodes,
            "machine_rank": self.node,
            "rdzv_backend": "static",
            "same_network": True,
            "mixed_precision": "no",  # the precision is the base's
            **met,
        }


@dataclass(kw_only=True)
class Fsdp(Processes):
    """The same, and each keeps only a share of the frozen layers while it trains (FSDP2)."""

    name: ClassVar[str] = "fsdp"
    shares_layers: ClassVar[bool] = True


@dataclass(kw_only=True)
class DeepSpeed(Processes):
    """The same, and each keeps only a share of the optimizer's memory (DeepSpeed's ZeRO)."""

    name: ClassVar[str] = "deepspeed"

    stage: int = 2
    """1: the optimizer's memory is shared out; 2: gradients, too."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stage not in (1, 2):
            raise ValueError(
                f"launch.stage must be 1 or 2, not {self.stage}; launch=fsdp shares out weights"
            )

    def check(self) -> None:
        if find_spec("deepspeed") is None:
            raise DataError("launch=deepspeed needs DeepSpeed: pip install 'palitune[deepspeed]'")

    def variables(self) -> dict[str, str]:
        return {
            "ACCELERATE_USE_DEEPSPEED": "true",
            "ACCELERATE_DEEPSPEED_ZERO_STAGE": str(self.stage),
            "ACCELERATE_DEEPSPEED_ZERO3_INIT": "false",
        }

    def accelerate(self) -> dict[str, Any]:
        how = {
            "zero_stage": self.stage,
            "zero3_init_flag": False,
            "deepspeed_multinode_launcher": "standard",
        }
        return {**super().accelerate(), "distributed_type": "DEEPSPEED", "deepspeed_config": how}


ALONE = Launch()

LAUNCHES: dict[str, type[Launch]] = {
    kind.name: kind for kind in (Launch, Processes, Fsdp, DeepSpeed)
}
