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

from palitune.engines import ALONE, DeepSpeed, Fsdp, Launch, Processes
from palitune.examples import DataError


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
    asked = Processes(processes=2, nodes=2)
    assert asked.starts()
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert not asked.starts()
    asked.join()
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(DataError, match="launch asks for 4 processes and 2 were started"):
        asked.join()
    ALONE.join()


@pytest.mark.parametrize(
    ("launch", "told", "said"),
    [
        (Processes(), "2", "launch asks for 2 processes and 1 was started"),
        (Fsdp(), "1", "launch asks for 2 processes and 1 was started"),
        (ALONE, "2", "asked for several processes and started one, as it does with --cpu"),
    ],
)
def test_one_process_that_accelerate_starts_in_place_of_several_is_refused(
    launch: Launch, told: str, said: str
) -> None:
    os.environ |= started_by_accelerate("--cpu", "--num_processes", told)
    assert not (isinstance(launch, Processes) and launch.starts())
    with pytest.raises(DataError, match=said):
        launch.join()


def test_one_process_that_accelerate_was_asked_for_is_taken() -> None:
    os.environ |= started_by_accelerate("--cpu", "--num_processes", "1")
    ALONE.join()
    Processes(processes=1).join()


@pytest.mark.parametrize(
    ("variable", "launch", "said"),
    [
        ("ACCELERATE_USE_FSDP", Fsdp(), "was told to use FSDP; say launch=fsdp"),
        ("ACCELERATE_USE_DEEPSPEED", ALONE, "was told to use DeepSpeed; say launch=deepspeed"),
    ],
)
def test_an_engine_that_accelerate_brings_along_is_refused(
    variable: str, launch: Launch, said: str
) -> None:
    os.environ |= {variable: "true", "WORLD_SIZE": "2"}
    with pytest.raises(DataError, match=said):
        launch.join()


@pytest.mark.parametrize("kind", [Processes, Fsdp, DeepSpeed])
def test_accelerate_reads_what_starts_the_same_processes(
    kind: Callable[..., Processes], tmp_path: Path
) -> None:
    launch = kind(processes=4, nodes=2, node=1, address="gpu0:29400")
    launch.write(tmp_path)
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
    ALONE.write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_accelerate_is_told_of_deepspeed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    DeepSpeed(stage=1).join()
    assert DeepSpeedPlugin().zero_stage == 1


def test_where_deepspeed_is_missing_one_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "deepspeed", None)
    with pytest.raises(DataError, match=r"needs DeepSpeed: pip install 'palitune\[deepspeed\]'"):
        DeepSpeed().check()


@pytest.mark.parametrize(
    ("kind", "told", "said"),
    [
        (Processes, {"processes": 0}, "launch.processes must be at least 1, not 0"),
        (Processes, {"nodes": 2, "node": 2}, "launch.node must be in 0 to 1, not 2"),
        (Fsdp, {"address": "localhost"}, "launch.address must be HOST:PORT, not localhost"),
        (DeepSpeed, {"stage": 3}, "launch.stage must be 1 or 2, not 3; launch=fsdp"),
    ],
)
def test_what_cannot_be_started_is_refused(
    kind: type[Processes], told: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        kind(**told)
