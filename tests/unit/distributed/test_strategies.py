"""As many processes as were asked for, by the engine that was; accelerate can start them, too."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command, launch_command_parser
from accelerate.utils import DeepSpeedPlugin, DistributedType

from palitune.distributed.strategies import SINGLE_PROCESS, DeepSpeed, Fsdp, MultiProcess, Strategy
from palitune.errors import DataError


@pytest.fixture(autouse=True)
def _environment_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", os.environ.copy())


def started_by_accelerate(*arguments: str) -> dict[str, str]:
    """The environment in which `accelerate launch` starts a command on CPUs."""
    seen: list[dict[str, str]] = []

    class Started:
        returncode = 0

        def __init__(self, command: list[str], env: dict[str, str]) -> None:
            seen.append(env)

        def wait(self) -> None:
            pass

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess, "Popen", Started)
        launch_command(launch_command_parser().parse_args([*arguments, "job.py"]))
    return seen[0]


def test_as_many_processes_as_were_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = MultiProcess(nproc_per_node=2, nnodes=2)
    assert asked.needs_launch()
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert not asked.needs_launch()
    asked.init_process()
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(DataError, match="launch asks for 4 processes and 2 were started"):
        asked.init_process()
    SINGLE_PROCESS.init_process()


@pytest.mark.parametrize(
    ("launch", "told", "said"),
    [
        (MultiProcess(), "2", "launch asks for 2 processes and 1 was started"),
        (Fsdp(), "1", "launch asks for 2 processes and 1 was started"),
        (SINGLE_PROCESS, "2", "asked for several processes and started one, as it does with --cpu"),
    ],
)
def test_one_process_that_accelerate_starts_in_place_of_several_is_refused(
    launch: Strategy, told: str, said: str
) -> None:
    os.environ |= started_by_accelerate("--cpu", "--num_processes", told)
    assert not (isinstance(launch, MultiProcess) and launch.needs_launch())
    with pytest.raises(DataError, match=said):
        launch.init_process()


def test_one_process_that_accelerate_was_asked_for_is_taken() -> None:
    os.environ |= started_by_accelerate("--cpu", "--num_processes", "1")
    SINGLE_PROCESS.init_process()
    MultiProcess(nproc_per_node=1).init_process()


@pytest.mark.parametrize(
    ("variable", "launch", "said"),
    [
        ("ACCELERATE_USE_FSDP", Fsdp(), "was told to use FSDP; say launch=fsdp"),
        (
            "ACCELERATE_USE_DEEPSPEED",
            SINGLE_PROCESS,
            "was told to use DeepSpeed; say launch=deepspeed",
        ),
    ],
)
def test_an_engine_that_accelerate_brings_along_is_refused(
    variable: str, launch: Strategy, said: str
) -> None:
    os.environ |= {variable: "true", "WORLD_SIZE": "2"}
    with pytest.raises(DataError, match=said):
        launch.init_process()


@pytest.mark.parametrize("kind", [MultiProcess, Fsdp, DeepSpeed])
def test_accelerate_reads_what_starts_the_same_processes(
    kind: Callable[..., MultiProcess], tmp_path: Path
) -> None:
    launch = kind(nproc_per_node=4, nnodes=2, node_rank=1, master_addr="gpu0:29400")
    launch.write_accelerate_config(tmp_path)
    read = load_config_from_file(str(tmp_path / "accelerate.yaml"))
    assert (read.num_processes, read.num_machines, read.machine_rank) == (8, 2, 1)
    assert (read.main_process_ip, read.main_process_port) == ("gpu0", 29400)
    assert read.mixed_precision == "no"
    assert read.fsdp_config == {}
    if kind is not DeepSpeed:
        assert read.distributed_type == DistributedType.MULTI_GPU
        return
    assert read.distributed_type == DistributedType.DEEPSPEED
    assert read.deepspeed_config["zero_stage"] == 2


def test_one_process_needs_no_file(tmp_path: Path) -> None:
    SINGLE_PROCESS.write_accelerate_config(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_accelerate_is_told_of_deepspeed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    DeepSpeed(zero_stage=1).init_process()
    assert DeepSpeedPlugin().zero_stage == 1


def test_where_deepspeed_is_missing_one_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "deepspeed", None)
    with pytest.raises(DataError, match=r"needs DeepSpeed: pip install 'palitune\[deepspeed\]'"):
        DeepSpeed().check_requirements()


@pytest.mark.parametrize(
    ("kind", "told", "said"),
    [
        (MultiProcess, {"nproc_per_node": 0}, "launch.nproc_per_node must be at least 1, not 0"),
        (MultiProcess, {"nnodes": 2, "node_rank": 2}, "launch.node_rank must be in 0 to 1, not 2"),
        (Fsdp, {"master_addr": "localhost"}, "launch.master_addr must be HOST:PORT, not localhost"),
        (DeepSpeed, {"zero_stage": 3}, "launch.zero_stage must be 1 or 2, not 3; launch=fsdp"),
    ],
)
def test_what_cannot_be_started_is_refused(
    kind: type[MultiProcess], told: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        kind(**told)
