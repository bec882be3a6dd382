"""A command line ends with an exit code, and with one sentence where something is wrong."""

import errno
import logging
import os
import signal
from pathlib import Path

import pytest

from palitune.cli.launch import launch
from palitune.config import ModelRecipeConfig
from palitune.distributed import preemption
from palitune.errors import DataError, ModelError

QUICKSTART = ["experiment=quickstart", "output_dir=out"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("TRANSFORMERS_VERBOSITY", "TOKENIZERS_PARALLELISM"):
        monkeypatch.setenv(name, "error")


def launched(story: object, *arguments: str) -> int:
    return launch("finetune", lambda: story, ["unused"], "palitune finetune", [*arguments])  # type: ignore[arg-type,return-value]


def test_a_story_is_told_the_composed_run() -> None:
    told: list[ModelRecipeConfig] = []
    assert launched(told.append, *QUICKSTART, "seed=7") == 0
    assert [(run.seed, run.output_dir) for run in told] == [(7, "out")]


@pytest.mark.parametrize("kind", [DataError, ModelError])
def test_what_a_user_can_mend_is_one_sentence(
    kind: type[Exception], capsys: pytest.CaptureFixture[str]
) -> None:
    def story(run: ModelRecipeConfig) -> None:
        raise kind("boats.jsonl:17: the box is empty")

    assert launched(story, *QUICKSTART) == 1
    assert capsys.readouterr().err == "palitune: boats.jsonl:17: the box is empty\n"


@pytest.mark.parametrize("engine", ["fsdp", "deepspeed"])
def test_an_engine_that_cannot_align_is_refused_before_anything_is_started(
    engine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    told = [*QUICKSTART, f"launch={engine}"]
    assert launch("align", lambda: print, ["unused"], "palitune align", told) == 1
    said = f"palitune: launch={engine} does not serve align, which samples answers while it trains"
    assert capsys.readouterr().err == f"{said}; say launch=ddp\n"


def test_what_only_we_can_mend_keeps_its_traceback() -> None:
    def story(run: ModelRecipeConfig) -> None:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        launched(story, *QUICKSTART)


def test_an_interrupted_story_ends_quietly(capsys: pytest.CaptureFixture[str]) -> None:
    def story(run: ModelRecipeConfig) -> None:
        raise KeyboardInterrupt

    assert launched(story, *QUICKSTART) == 130
    assert capsys.readouterr() == ("", "")


def test_a_full_disk_is_one_sentence_wherever_it_is_met(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def story(run: ModelRecipeConfig) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "out/report.html")

    assert launched(story, *QUICKSTART) == 1
    assert capsys.readouterr().err == (
        "palitune: [Errno 28] No space left on device: 'out/report.html': free space; the same "
        "command goes on from the last checkpoint with training.resume=auto\n"
    )


def test_a_story_that_is_told_to_end_is_not_taken_for_a_failed_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def story(run: ModelRecipeConfig) -> None:
        with preemption.defer_sigterm():
            os.kill(os.getpid(), signal.SIGTERM)
            raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Terminated")

    assert launched(story, *QUICKSTART) == 75
    assert capsys.readouterr().err.startswith("palitune: ended by SIGTERM; DataLoader worker")


def test_a_mistake_is_found_before_any_story_is_loaded(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def load() -> None:
        raise AssertionError("the story must not be loaded")

    arguments = [*QUICKSTART, "seed=many"]
    assert launch("finetune", load, [], "palitune finetune", arguments) == 2  # type: ignore[arg-type]
    assert capsys.readouterr().err.startswith("palitune: seed=many: ")
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_in_any_job_of_a_sweep_is_found_before_the_first_one_runs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert launched(None, *QUICKSTART, "--multirun", "training.global_batch_size=48,0") == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", "palitune: training.global_batch_size must be at least 1, got 0.\n")


def test_showing_the_configuration_runs_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert launched(None, *QUICKSTART, "--cfg", "job", "seed=5") == 0
    assert "\nseed: 5\n" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_the_jobs_of_a_sweep_get_a_folder_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert launched(None, *QUICKSTART, "--cfg", "job", "-m", "adapter.rank=4,8", "seed=1,2") == 0
    shown = [line for line in capsys.readouterr().out.splitlines() if "written to" in line]
    assert [line.partition("written to ")[2] for line in shown] == [
        "out/0_adapter.rank=4,seed=1",
        "out/1_adapter.rank=4,seed=2",
        "out/2_adapter.rank=8,seed=1",
        "out/3_adapter.rank=8,seed=2",
    ]


def test_the_folders_of_a_sweep_name_adapters_by_what_differs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    swept = "adapter.path=null,runs/of lora8/adapter,runs/of lora16/adapter"
    assert launched(None, *QUICKSTART, "--cfg", "job", "-m", swept) == 0
    shown = [line for line in capsys.readouterr().out.splitlines() if "written to" in line]
    assert [line.partition("written to ")[2] for line in shown] == [
        "out/0_adapter.path=null",
        "out/1_adapter.path=of_lora8",
        "out/2_adapter.path=of_lora16",
    ]


def test_the_folders_of_many_jobs_sort_as_the_jobs_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert launched(None, *QUICKSTART, "--cfg", "job", "-m", "seed=range(0,11)") == 0
    shown = [line for line in capsys.readouterr().out.splitlines() if "written to" in line]
    folders = [line.partition("written to ")[2] for line in shown]
    assert folders == sorted(folders)
    assert (folders[0], folders[-1]) == ("out/00_seed=0", "out/10_seed=10")


def test_only_the_main_process_says_what_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    levels = []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        assert launched(lambda run: None, *QUICKSTART) == 0
        levels.append(logging.getLogger("palitune").level)
    logging.getLogger("palitune").setLevel(logging.NOTSET)
    assert levels == [logging.INFO, logging.WARNING]
