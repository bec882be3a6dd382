"""The number of processes and the strategy match `launch`; accelerate can start them, too."""

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
def _isolated_environment(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_the_number_of_started_processes_must_match(monkeypatch: pytest.MonkeyPatch) -> None:
    strategy = MultiProcess(nproc_per_node=2, nnodes=2)
    assert strategy.needs_launch()
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert not strategy.needs_launch()
    strategy.init_process()
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(DataError, match="launch=ddp requires 4 processes, but 2 were started"):
        strategy.init_process()
    SINGLE_PROCESS.init_process()


@pytest.mark.parametrize(
    ("launch", "num_processes", "message"),
    [
        (MultiProcess(), "2", "launch=ddp requires 2 processes, but 1 was started"),
        (Fsdp(), "1", "launch=fsdp requires 2 processes, but 1 was started"),
        (
            SINGLE_PROCESS,
            "2",
            "configured for several processes but started one, as it does with --cpu",
        ),
    ],
)
def test_one_process_that_accelerate_starts_instead_of_several_is_rejected(
    launch: Strategy, num_processes: str, message: str
) -> None:
    os.environ |= started_by_accelerate("--cpu", "--num_processes", num_processes)
    assert not (isinstance(launch, MultiProcess) and launch.needs_launch())
    with pytest.raises(DataError, match=message):
        launch.init_process()


def test_one_process_that_accelerate_is_configured_for_is_accepted() -> None:
    os.environ |= started_by_accelerate("--cpu", "--num_processes", "1")
    SINGLE_PROCESS.init_process()
    MultiProcess(nproc_per_node=1).init_process()


@pytest.mark.parametrize(
    ("variable", "launch", "message"),
    [
        ("ACCELERATE_USE_FSDP", Fsdp(), r"configured for FSDP\. Set launch=fsdp"),
        (
            "ACCELERATE_USE_DEEPSPEED",
            SINGLE_PROCESS,
            r"configured for DeepSpeed\. Set launch=deepspeed",
        ),
    ],
)
def test_another_strategy_in_the_accelerate_configuration_is_rejected(
    variable: str, launch: Strategy, message: str
) -> None:
    os.environ |= {variable: "true", "WORLD_SIZE": "2"}
    with pytest.raises(DataError, match=message):
        launch.init_process()


@pytest.mark.parametrize("kind", [MultiProcess, Fsdp, DeepSpeed])
def test_the_accelerate_configuration_starts_the_same_processes(
    kind: Callable[..., MultiProcess], tmp_path: Path
) -> None:
    launch = kind(nproc_per_node=4, nnodes=2, node_rank=1, master_addr="gpu0:29400")
    launch.write_accelerate_config(tmp_path)
    config = load_config_from_file(str(tmp_path / "accelerate.yaml"))
    assert (config.num_processes, config.num_machines, config.machine_rank) == (8, 2, 1)
    assert (config.main_process_ip, config.main_process_port) == ("gpu0", 29400)
    assert config.mixed_precision == "no"
    assert config.fsdp_config == {}
    if kind is not DeepSpeed:
        assert config.distributed_type == DistributedType.MULTI_GPU
        return
    assert config.distributed_type == DistributedType.DEEPSPEED
    assert config.deepspeed_config["zero_stage"] == 2


def test_a_single_process_writes_no_accelerate_configuration(tmp_path: Path) -> None:
    SINGLE_PROCESS.write_accelerate_config(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_environment_configures_deepspeed_in_accelerate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    DeepSpeed(zero_stage=1).init_process()
    assert DeepSpeedPlugin().zero_stage == 1


def test_a_missing_deepspeed_is_reported_with_its_install_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "deepspeed", None)
    with pytest.raises(DataError, match=r"requires DeepSpeed: pip install 'palitune\[deepspeed\]'"):
        DeepSpeed().check_requirements()


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (MultiProcess, {"nproc_per_node": 0}, "launch.nproc_per_node must be at least 1, got 0."),
        (
            MultiProcess,
            {"nnodes": 2, "node_rank": 2},
            "launch.node_rank must be below launch.nnodes=2, got 2.",
        ),
        (
            Fsdp,
            {"master_addr": "localhost"},
            "launch.master_addr must be HOST:PORT, got localhost.",
        ),
        (DeepSpeed, {"zero_stage": 3}, "launch.zero_stage must be 1 or 2, got 3. Set launch=fsdp"),
    ],
)
def test_invalid_settings_are_rejected(
    kind: type[MultiProcess], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**options)
