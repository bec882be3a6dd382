"""Locks of output folders."""

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from palitune.errors import ConfigError
from palitune.report.run_claim import check_free, claim_output, lock_folder

HOLD = """
import sys
from pathlib import Path
from palitune.report.run_claim import lock_folder
with lock_folder(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


def start_owner(folder: Path) -> "subprocess.Popen[str]":
    owner = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert owner.stdout is not None
    assert owner.stdout.readline() == "locked\n"
    return owner


def stop(owner: "subprocess.Popen[str]") -> None:
    owner.kill()
    owner.communicate()


def default_run(folder: Path) -> Any:
    run = SimpleNamespace(
        name="finetune", output_dir=str(folder), overwrite=False, has_default_folder=True,
        resumes=False,
    )  # fmt: skip
    run.written_folders = lambda: [run.output_dir]
    return run


def test_a_folder_in_use_is_refused_until_its_owner_is_killed(tmp_path: Path) -> None:
    owner = start_owner(tmp_path / "run")
    try:
        match = rf"in use by another run \(process {owner.pid} on .*set output_dir=.*run_2\."
        with pytest.raises(ConfigError, match=match), lock_folder(tmp_path / "run"):
            pass
    finally:
        stop(owner)
    with lock_folder(tmp_path / "run"):
        assert (tmp_path / "run/.lock").read_text().startswith(f"process {os.getpid()} on ")


def test_an_empty_folder_is_removed_and_one_with_files_stays(tmp_path: Path) -> None:
    with lock_folder(tmp_path / "a/b"):
        pass
    assert list(tmp_path.iterdir()) == []
    with lock_folder(tmp_path / "a/b"):
        (tmp_path / "a/b/metrics.json").write_text("{}")
    assert os.listdir(tmp_path / "a/b") == ["metrics.json"]


def test_a_default_folder_that_is_taken_is_numbered(tmp_path: Path) -> None:
    (tmp_path / "now").mkdir()
    owner = start_owner(tmp_path / "now_2")
    try:
        with ExitStack() as stack:
            assert claim_output(default_run(tmp_path / "now"), stack) == str(tmp_path / "now_3")
    finally:
        stop(owner)


@pytest.mark.parametrize(
    ("line", "is_resumed"),
    [('{"id": "1", "origin": "ab"}\n', True), ('{"id": "1"}\n', False)],
)
def test_an_evaluation_goes_on_only_if_its_predictions_are_partial(
    line: str, is_resumed: bool, tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text("# @package _global_\n# A run of evaluate, written to x")
    (tmp_path / "predictions.jsonl").write_text(line)
    if is_resumed:
        check_free(tmp_path, recipe="evaluate", resumes=False)
    else:
        with pytest.raises(ConfigError, match="already holds a run of evaluate"):
            check_free(tmp_path, recipe="evaluate", resumes=False)


@pytest.mark.parametrize("folder", ["/proc/run", "/proc/self/run", "a" * 300, "/dev/null/run"])
def test_a_folder_that_cannot_be_created_is_one_sentence(folder: str) -> None:
    run = default_run(Path(folder))
    message = r"output_dir .*\. Set another output_dir\.$"
    with pytest.raises(ConfigError, match=message), ExitStack() as stack:
        claim_output(run, stack)
