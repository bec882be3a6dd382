"""Jobs of a sweep on a cluster: submitit's local cluster, and the parameters of sbatch and Ray."""

import json
import sys
import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import submitit

from palitune.cli.launch import launch
from palitune.config.recipes import Finetune
from palitune.config.runners import RayConfig, SlurmConfig
from palitune.sweeps.cluster_runners import SubmititTask
from palitune.sweeps.launch_sweep import make_runner

JOB = """
import os, pathlib, sys
values = dict(text.split("=", 1) for text in sys.argv[1:])
folder = pathlib.Path(values["output_dir"].strip("'"))
folder.mkdir(parents=True, exist_ok=True)
resumed = values.get("training.resume") == "auto"
(folder / f"{os.environ['RANK']} of {os.environ['WORLD_SIZE']}").write_text(str(resumed))
if values["seed"] == "1" and not resumed:
    sys.exit(75)
if values["seed"] == "2" and os.environ["RANK"] == "1":
    sys.exit("palitune: boats.jsonl:3: no box")
"""


def test_a_sweep_of_jobs_of_two_processes_through_submitit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("job.py").write_text(JOB)
    overrides = ["data=handwriting", "task=ocr", "model=tiny", "output_dir=out", "--multirun"]
    runner = [
        "runner=slurm",
        "runner.cluster=local",
        "runner.tasks_per_node=2",
        "runner.gpus_per_job=0",
        "seed=1,2",
    ]
    assert launch(Finetune, lambda: print, ["job.py"], "palitune", [*overrides, *runner]) == 1
    assert capfd.readouterr().err.endswith(
        "palitune: 1 of 2 jobs failed: seed=2 (boats.jsonl:3: no box)\n"
    )
    jobs = json.loads(Path("out/sweep.json").read_text())["jobs"]
    assert [job["state"] for job in jobs] == ["done", "failed"]
    ranks = {file.name: file.read_text() for file in Path("out/0_seed=1").iterdir()}
    assert ranks == {"0 of 2": "True", "1 of 2": "True"}  # it was requeued and resumed
    assert list(Path("out/logs").glob("*.err"))


def test_a_job_at_its_time_limit_saves_a_checkpoint_and_is_requeued_to_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submitit, "JobEnvironment", lambda: SimpleNamespace(num_tasks=1))
    ready = tmp_path / "ready"
    saves = (
        "import pathlib, signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(75));"
        f"pathlib.Path({str(ready)!r}).touch(); time.sleep(60)"
    )
    task = SubmititTask(["-c", saves], ["training.resume=auto"])
    outcomes: list[Any] = []
    thread = threading.Thread(target=lambda: outcomes.append(task()))
    thread.start()
    while not ready.exists():
        pass
    requeued = task.checkpoint()
    thread.join()
    assert outcomes == [(75, "")]
    assert requeued.function.command == ["-c", saves, "training.resume=auto"]


def test_parameters_of_sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parameters: dict[str, Any] = {}
    monkeypatch.setattr(submitit.SlurmExecutor, "affinity", classmethod(lambda cls: 2))
    monkeypatch.setattr(
        submitit.SlurmExecutor,
        "_internal_update_parameters",
        lambda self, **kwargs: parameters.update(kwargs),
    )
    settings = SlurmConfig(
        partition="a100", timeout_min=90, gpus_per_job=4, tasks_per_node=4, nodes=2, mem_gb=64,
        setup=["module load cuda"], additional_parameters={"qos": "low"},
    )  # fmt: skip
    make_runner(settings, tmp_path)
    assert parameters == {
        "job_name": "palitune", "time": 90, "partition": "a100", "gpus_per_node": 4,
        "ntasks_per_node": 4, "cpus_per_task": 8, "nodes": 2, "mem": "64GB",
        "setup": ["module load cuda"], "signal_delay_s": 120,
        "additional_parameters": {"qos": "low"},
    }  # fmt: skip


def test_without_slurm_a_sweep_ends_with_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")
    overrides = [
        "data=handwriting",
        "task=ocr",
        "model=tiny",
        "--multirun",
        "runner=slurm",
        "seed=1,2",
    ]
    assert launch(Finetune, lambda: print, [], "palitune", overrides) == 1
    err = capsys.readouterr().err
    assert err.startswith("palitune: runner=slurm: ")
    assert err.endswith("start the sweep on a machine with sbatch and srun, or set runner=local\n")


def test_ray_reserves_the_cores_and_gpus_of_a_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests: list[Any] = []
    ray: Any = ModuleType("ray")
    ray.init = lambda address, **_: requests.append(address)
    ray.exceptions = SimpleNamespace(RayError=RuntimeError)
    ray.get = lambda outcome: outcome
    ray.remote = lambda **kwargs: (
        requests.append(kwargs) or (lambda work: SimpleNamespace(remote=work))
    )
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.chdir(tmp_path)
    runner = make_runner(RayConfig(address="auto", cpus_per_task=4), tmp_path)
    script = "import pathlib, sys; pathlib.Path(sys.argv[1]).touch(); sys.exit('no box')"
    assert runner.run(["-c", script, "here"], [], tmp_path / "log.txt") == (1, "no box")
    assert requests == ["auto", {"num_cpus": 4, "num_gpus": 1, "max_retries": 0}]
    assert Path("here").is_file()


@pytest.mark.parametrize(("name", "settings"), [("ray", RayConfig()), ("submitit", SlurmConfig())])
def test_a_missing_library_is_an_error_with_the_pip_command(
    name: str, settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(Exception, match=rf"pip install 'palitune\[{settings.name}\]'"):
        make_runner(settings, tmp_path)
