"""Completion in a shell: recipes, groups, options, settings and their values."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from palitune import __main__ as program
from palitune.cli.completion import SCRIPTS, candidates
from palitune.config import catalog


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["fine"], ["finetune"]),
        (["comp"], ["compare", "completion"]),
        (["list", "trac"], ["tracking"]),
        (["list", "tracking", "w"], ["wandb"]),
        (["copy", "ali"], ["align"]),
        (["completion", ""], ["bash", "fish", "zsh"]),
        (["finetune", "adap"], ["adapter.", "adapter="]),
        (["finetune", "adapter=q"], ["adapter=qlora"]),
        (["finetune", "experiment=docv"], ["experiment=docvqa"]),
        (["finetune", "training.sched"], ["training.schedule="]),
        (["finetune", "adapter.dora=f"], ["adapter.dora=false"]),
        (["finetune", "task=detection", "task.prompt_c"], ["task.prompt_classes="]),
        (["finetune", "adapter=qlora", "adapter.bi"], ["adapter.bits="]),
        (["finetune", "adapter=lora", "adapter.bi"], []),
        (["finetune", "--mul"], ["--multirun"]),
        (["predict", "images=ph"], []),
        (["nothing", "x"], []),
    ],
)  # fmt: skip
def test_the_last_word_is_completed(words: list[str], expected: list[str]) -> None:
    assert candidates(words) == expected


@pytest.mark.parametrize("recipe", catalog.recipes())
def test_every_setting_of_every_recipe_is_offered(recipe: str) -> None:
    offered = candidates([recipe, ""])
    assert "output_dir=" in offered or recipe in ("check", "compare")
    assert all(word.endswith(("=", ".")) for word in offered)


def test_bash_completes_what_follows_the_last_separator(tmp_path: Path) -> None:
    script = tmp_path / "completion.bash"
    script.write_text(SCRIPTS["bash"])
    typed = [
        "palitune fine",
        "palitune finetune adapter=q",
        "palitune list tracking w",
        "palitune ",
    ]
    lines = [f"source {shlex.quote(str(script))}"]
    lines.append(f'palitune() {{ {shlex.quote(sys.executable)} -m palitune "$@"; }}')
    for line in typed:
        lines.append(f"COMP_LINE={shlex.quote(line)} COMP_POINT={len(line)}")
        lines.append('_palitune; echo "${COMPREPLY[*]}"')
    done = subprocess.run(
        ["bash", "-c", "\n".join(lines)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
    )
    first, second, third, fourth = done.stdout.splitlines()
    assert (first, second, third) == ("finetune", "qlora", "wandb")
    assert set(fourth.split()) == {*catalog.recipes(), "list", "copy", "schema", "completion"}


def test_a_script_is_printed_for_each_shell(capsys: pytest.CaptureFixture[str]) -> None:
    for shell in SCRIPTS:
        assert program.run(["completion", shell]) == 0
        assert "palitune completion words" in capsys.readouterr().out
    assert program.run(["completion", "csh"]) == 2
    assert "csh" in capsys.readouterr().err
