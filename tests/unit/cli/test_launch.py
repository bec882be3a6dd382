"""Exit codes and error messages of a recipe's command line."""

import errno
import logging
import os
import re
import signal
from pathlib import Path

import pytest
import torch

from palitune import __main__ as program
from palitune.cli.launch import launch
from palitune.config.recipes import Align, Finetune, ModelRecipeConfig
from palitune.distributed import preemption
from palitune.distributed.loader_failures import describe_killed_worker
from palitune.errors import DataError, ModelError
from palitune.planning import out_of_memory

QUICKSTART = ["experiment=quickstart", "output_dir=out"]


@pytest.fixture(autouse=True)
def _in_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("TRANSFORMERS_VERBOSITY", "TOKENIZERS_PARALLELISM"):
        monkeypatch.setenv(name, "error")


def launch_finetune(function: object, *argv: str) -> int:
    return launch(Finetune, lambda: function, ["unused"], "palitune finetune", [*argv])  # type: ignore[arg-type,return-value]


def test_a_recipe_gets_the_composed_run() -> None:
    runs: list[ModelRecipeConfig] = []
    assert launch_finetune(runs.append, *QUICKSTART, "seed=7") == 0
    assert [(run.seed, run.output_dir) for run in runs] == [(7, "out")]


@pytest.mark.parametrize("kind", [DataError, ModelError])
def test_an_error_that_the_user_can_fix_is_one_sentence(
    kind: type[Exception], capsys: pytest.CaptureFixture[str]
) -> None:
    def recipe(run: ModelRecipeConfig) -> None:
        raise kind("boats.jsonl:17: the box is empty")

    assert launch_finetune(recipe, *QUICKSTART) == 1
    assert capsys.readouterr().err == "palitune: boats.jsonl:17: the box is empty\n"


@pytest.mark.parametrize("strategy", ["fsdp", "deepspeed"])
def test_an_unsupported_strategy_is_an_error_before_processes_start(
    strategy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [*QUICKSTART, f"launch={strategy}"]
    assert launch(Align, lambda: print, ["unused"], "palitune align", argv) == 1
    message = f"launch={strategy} is not supported by align, which generates text during training"
    assert capsys.readouterr().err == f"palitune: {message}; set launch=ddp\n"


def test_a_bug_keeps_its_traceback() -> None:
    def recipe(run: ModelRecipeConfig) -> None:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        launch_finetune(recipe, *QUICKSTART)


def test_an_interrupted_recipe_says_what_was_saved(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def recipe(run: ModelRecipeConfig) -> None:
        raise KeyboardInterrupt

    def recipe_with_checkpoint(run: ModelRecipeConfig) -> None:
        Path(run.output_dir, "checkpoints/checkpoint-3").mkdir(parents=True)
        raise KeyboardInterrupt

    assert launch_finetune(recipe, *QUICKSTART) == 130
    assert capsys.readouterr() == ("", "palitune: interrupted; nothing was saved\n")
    assert list(tmp_path.iterdir()) == []  # no empty run folder stays behind
    assert launch_finetune(recipe_with_checkpoint, "experiment=quickstart") == 130
    (folder,) = tmp_path.glob("outputs/finetune/*")
    assert capsys.readouterr().err == (
        "palitune: interrupted; add training.resume=auto and "
        f"output_dir={folder.relative_to(tmp_path)} to the same command to resume from the last "
        "checkpoint\n"
    )


@pytest.mark.parametrize("earlier", ["finetune", "evaluate", None])
def test_results_in_the_output_folder_are_never_overwritten_silently(
    earlier: str | None, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "out/adapter").mkdir(parents=True)
    if earlier:
        (tmp_path / "out/config.yaml").write_text(f"# A run of {earlier}, written to out\n")
    runs: list[ModelRecipeConfig] = []
    assert launch_finetune(runs.append, *QUICKSTART) == 2
    message = capsys.readouterr().err
    holds = f"a run of {earlier}" if earlier else "other files"
    resume = "training.resume=auto to resume it, " if earlier == "finetune" else ""
    assert message == (
        f"palitune: output_dir out already holds {holds} (adapter). Set {resume}output_dir=out_2 "
        "for a new folder, or overwrite=true.\n"
    )
    assert not runs
    assert launch_finetune(runs.append, *QUICKSTART, "overwrite=true") == 0
    assert launch_finetune(runs.append, *QUICKSTART, "training.resume=auto") == 0
    assert launch_finetune(runs.append, "experiment=quickstart", "output_dir=out_2") == 0


def test_a_folder_in_which_nothing_was_made_is_used_again(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    for name in ("config.yaml", "environment.json", "skipped.txt"):
        (tmp_path / "out" / name).write_text("")
    assert launch_finetune(lambda run: None, *QUICKSTART) == 0


def test_an_output_folder_that_cannot_be_made_is_an_error(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    assert launch_finetune(print, "experiment=quickstart", "output_dir=file/run") == 2
    assert capsys.readouterr().err == (
        "palitune: output_dir file/run: file is a file. Set another output_dir.\n"
    )


def test_a_full_disk_is_an_error_of_one_sentence(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def recipe(run: ModelRecipeConfig) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "out/report.html")

    assert launch_finetune(recipe, *QUICKSTART) == 1
    assert capsys.readouterr().err == (
        "palitune: [Errno 28] No space left on device: 'out/report.html': free some disk space\n"
    )


def test_a_file_that_the_machine_refuses_is_one_sentence(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def recipe(run: ModelRecipeConfig) -> None:
        raise OSError(errno.EROFS, "Read-only file system", "out/report.html")

    assert launch_finetune(recipe, *QUICKSTART) == 1
    assert capsys.readouterr().err == (
        "palitune: out/report.html cannot be read or written (Read-only file system)\n"
    )


def test_out_of_memory_is_one_sentence_with_settings_that_fit(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(out_of_memory, "default_device_type", lambda: "cuda")
    monkeypatch.setattr(out_of_memory, "total_memory", lambda device: 16 * 2**30)

    def recipe(run: ModelRecipeConfig) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    overrides = ("task=ocr", "data=handwriting", "model=paligemma2", "model.resolution=448")
    assert launch_finetune(recipe, *overrides, "training.micro_batch_size=8") == 1
    error = capsys.readouterr().err
    assert error.startswith("palitune: out of memory with training.micro_batch_size=8 on a device")
    assert "predicted to fit: training.micro_batch_size=" in error
    assert "training.gradient_checkpointing=true" in error
    assert error.count("\n") == 1


def test_an_error_after_sigterm_is_reported_as_preemption(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def recipe(run: ModelRecipeConfig) -> None:
        with preemption.defer_sigterm():
            os.kill(os.getpid(), signal.SIGTERM)
            raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Terminated")

    assert launch_finetune(recipe, *QUICKSTART) == 75
    assert capsys.readouterr().err.startswith("palitune: ended by SIGTERM; DataLoader worker")


class KilledWorker(torch.utils.data.Dataset[int]):
    """A data set that ends the process that reads it."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return index


def test_a_killed_data_loader_worker_is_reported_as_such(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def recipe(run: ModelRecipeConfig) -> None:
        list(torch.utils.data.DataLoader(KilledWorker(), num_workers=1))

    assert launch_finetune(recipe, *QUICKSTART) == 1
    error = capsys.readouterr().err
    assert re.match(r"palitune: data loader worker [0-9]+ was killed \(Killed\): the ", error)
    assert "training.num_workers" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("DataLoader worker (pid 7) is killed by signal: Bus error. ", "7 was killed (Bus error):"),
        ("DataLoader worker (pid(s) 7, 8) exited unexpectedly", "7, 8 ended unexpectedly:"),
    ],
)
def test_a_failed_worker_is_found_behind_other_errors(text: str, expected: str) -> None:
    wrapped = RuntimeError("the step failed")
    wrapped.__cause__ = RuntimeError(text)
    assert str(describe_killed_worker(wrapped)).startswith(f"data loader worker {expected}")
    assert describe_killed_worker(RuntimeError("something else")) is None


def test_a_configuration_error_is_found_before_the_recipe_is_loaded(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def load() -> None:
        raise AssertionError("the recipe must not be loaded")

    argv = [*QUICKSTART, "seed=many"]
    assert launch(Finetune, load, [], "palitune finetune", argv) == 2  # type: ignore[arg-type]
    assert capsys.readouterr().err.startswith("palitune: seed=many: ")
    assert list(tmp_path.iterdir()) == []


def test_an_invalid_job_of_a_sweep_is_found_before_the_first_one_runs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert launch_finetune(None, *QUICKSTART, "--multirun", "training.global_batch_size=48,0") == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", "palitune: training.global_batch_size must be at least 1, got 0.\n")


def test_showing_the_configuration_runs_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert launch_finetune(None, *QUICKSTART, "--cfg", "job", "seed=5") == 0
    assert "\nseed: 5\n" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_the_jobs_of_a_sweep_get_a_folder_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        launch_finetune(None, *QUICKSTART, "--cfg", "job", "-m", "adapter.rank=4,8", "seed=1,2")
        == 0
    )
    lines = [line for line in capsys.readouterr().out.splitlines() if "written to" in line]
    assert [line.partition("written to ")[2] for line in lines] == [
        "out/0_adapter.rank=4,seed=1",
        "out/1_adapter.rank=4,seed=2",
        "out/2_adapter.rank=8,seed=1",
        "out/3_adapter.rank=8,seed=2",
    ]


def test_the_folders_of_a_sweep_shorten_paths_to_their_differences(
    capsys: pytest.CaptureFixture[str],
) -> None:
    swept = "adapter.path=null,runs/of lora8/adapter,runs/of lora16/adapter"
    assert launch_finetune(None, *QUICKSTART, "--cfg", "job", "-m", swept) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "written to" in line]
    assert [line.partition("written to ")[2] for line in lines] == [
        "out/0_adapter.path=null",
        "out/1_adapter.path=of_lora8",
        "out/2_adapter.path=of_lora16",
    ]


def test_the_folders_of_many_jobs_sort_as_the_jobs_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert launch_finetune(None, *QUICKSTART, "--cfg", "job", "-m", "seed=range(0,11)") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "written to" in line]
    folders = [line.partition("written to ")[2] for line in lines]
    assert folders == sorted(folders)
    assert (folders[0], folders[-1]) == ("out/00_seed=0", "out/10_seed=10")


def test_only_the_main_process_logs_information(monkeypatch: pytest.MonkeyPatch) -> None:
    levels = []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        assert launch_finetune(lambda run: None, *QUICKSTART) == 0
        levels.append(logging.getLogger("palitune").level)
    logging.getLogger("palitune").setLevel(logging.NOTSET)
    assert levels == [logging.INFO, logging.WARNING]


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, "expandable_segments:True"),
        ({"PYTORCH_ALLOC_CONF": "max_split_size_mb:64"}, "max_split_size_mb:64"),
        ({"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:64"}, None),
    ],
)
def test_segments_of_gpu_memory_are_expandable_unless_configured_otherwise(
    variables: dict[str, str], expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
        monkeypatch.setenv(name, "")  # restored after the test
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    values: list[str | None] = []

    def recipe(run: ModelRecipeConfig) -> None:
        values.append(os.environ.get("PYTORCH_ALLOC_CONF"))

    assert launch_finetune(recipe, *QUICKSTART) == 0
    assert values == [expected]


def test_sigterm_before_the_recipe_starts_has_its_exit_code(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "run", lambda argv: os.kill(os.getpid(), signal.SIGTERM))
    previous = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as ended:
            program.main()
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert ended.value.code == 75
    assert capfd.readouterr().err == "palitune: ended by SIGTERM; nothing was saved\n"
