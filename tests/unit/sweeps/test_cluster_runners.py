"""Jobs of a sweep on other machines: submitit's local cluster from end to end, and what is told."""

import json
import sys
import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import submitit

from palitune.cli.launch import launch
from palitune.config.runners import RayConfig, SlurmConfig
from palitune.sweeps.cluster_runners import SubmititTask

JOB = """
import os, pathlib, sys
told = dict(text.split("=", 1) for text in sys.argv[1:])
folder = pathlib.Path(told["output_dir"].strip("'"))
folder.mkdir(parents=True, exist_ok=True)
again = told.get("training.resume") == "auto"
(folder / f"{os.environ['RANK']} of {os.environ['WORLD_SIZE']}").write_text(str(again))
if told["seed"] == "1" and not again:
    sys.exit(75)
if told["seed"] == "2" and os.environ["RANK"] == "1":
    sys.exit("palitune: boats.jsonl:3: no box")
"""


def test_a_sweep_of_jobs_of_two_processes_through_submitit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("job.py").write_text(JOB)
    told = ["data=handwriting", "task=ocr", "model=tiny", "output_dir=out", "--multirun"]
    at = [
        "runner=slurm",
        "runner.cluster=local",
        "runner.tasks_per_node=2",
        "runner.gpus_per_job=0",
        "seed=1,2",
    ]
    assert launch("finetune", lambda: print, ["job.py"], "palitune", [*told, *at]) == 1
    assert capfd.readouterr().err.endswith(
        "palitune: 1 of 2 jobs failed: seed=2 (boats.jsonl:3: no box)\n"
    )
    jobs = json.loads(Path("out/sweep.json").read_text())["jobs"]
    assert [job["state"] for job in jobs] == ["done", "failed"]
    ranks = {file.name: file.read_text() for file in Path("out/0_seed=1").iterdir()}
    assert ranks == {"0 of 2": "True", "1 of 2": "True"}  # it was queued again, to resume
    assert list(Path("out/logs").glob("*.err"))


def test_a_job_whose_time_is_over_saves_its_step_and_is_queued_again_to_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submitit, "JobEnvironment", lambda: SimpleNamespace(num_tasks=1))
    ready = tmp_path / "ready"
    saves = (
        "import pathlib, signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(75));"
        f"pathlib.Path({str(ready)!r}).touch(); time.sleep(60)"
    )
    errand = SubmititTask(["-c", saves], ["training.resume=auto"])
    outcomes: list[Any] = []
    thread = threading.Thread(target=lambda: outcomes.append(errand()))
    thread.start()
    while not ready.exists():
        pass
    again = errand.checkpoint()
    thread.join()
    assert outcomes == [(75, "")]
    assert again.function.command == ["-c", saves, "training.resume=auto"]


def test_what_sbatch_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, Any] = {}
    monkeypatch.setattr(submitit.SlurmExecutor, "affinity", classmethod(lambda cls: 2))
    monkeypatch.setattr(
        submitit.SlurmExecutor,
        "_internal_update_parameters",
        lambda self, **given: told.update(given),
    )
    settings = SlurmConfig(
        partition="a100", timeout_min=90, gpus_per_job=4, tasks_per_node=4, nodes=2, mem_gb=64,
        setup=["module load cuda"], additional_parameters={"qos": "low"},
    )  # fmt: skip
    settings.runner(tmp_path)
    assert told == {
        "job_name": "palitune", "time": 90, "partition": "a100", "gpus_per_node": 4,
        "ntasks_per_node": 4, "cpus_per_task": 8, "nodes": 2, "mem": "64GB",
        "setup": ["module load cuda"], "signal_delay_s": 120,
        "additional_parameters": {"qos": "low"},
    }  # fmt: skip


def test_where_there_is_no_slurm_a_sweep_ends_with_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")
    told = ["data=handwriting", "task=ocr", "model=tiny", "--multirun", "runner=slurm", "seed=1,2"]
    assert launch("finetune", lambda: print, [], "palitune", told) == 1
    err = capsys.readouterr().err
    assert err.startswith("palitune: runner=slurm: ")
    assert err.endswith("run it where sbatch and srun are, or say runner=local\n")


def test_ray_is_asked_for_the_cores_and_gpus_of_a_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    ray: Any = ModuleType("ray")
    ray.init = lambda address, **_: asked.append(address)
    ray.exceptions = SimpleNamespace(RayError=RuntimeError)
    ray.get = lambda outcome: outcome
    ray.remote = lambda **told: asked.append(told) or (lambda work: SimpleNamespace(remote=work))
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.chdir(tmp_path)
    runner = RayConfig(address="auto", cpus_per_task=4).runner(tmp_path)
    script = "import pathlib, sys; pathlib.Path(sys.argv[1]).touch(); sys.exit('no box')"
    assert runner.run(["-c", script, "here"], [], tmp_path / "log.txt") == (1, "no box")
    assert asked == ["auto", {"num_cpus": 4, "num_gpus": 1, "max_retries": 0}]
    assert Path("here").is_file()


@pytest.mark.parametrize(("name", "kind"), [("ray", RayConfig()), ("submitit", SlurmConfig())])
def test_what_is_not_installed_is_named(
    name: str, kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(Exception, match=rf"pip install 'palitune\[{kind.name}\]'"):
        kind.runner(tmp_path)
