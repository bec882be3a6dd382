"""The program `palitune` as a user meets it: from any folder, installed or not."""

import json
import os
import resource
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest

from palitune.config.recipes import RECIPE_CONFIGS

ROOT = Path(__file__).parents[2]
BYTECODE = str(ROOT / ".pytest_cache/bytecode")
HEAVY = ("torch", "transformers", "peft", "datasets", "PIL", "numpy", "pandas", "wandb")
STORY = '''
    """Write down what was told."""
    import logging
    from dataclasses import dataclass
    from pathlib import Path

    from palitune.cli.recipe import recipe
    from palitune.config.recipes import Finetune
    from palitune.config.to_yaml import to_yaml
    from palitune.errors import DataError

    @dataclass(kw_only=True)
    class Mine(Finetune):
        fail: bool = False
        """Whether to fail."""

    @recipe(Mine)
    def finetune(run: Mine) -> None:
        logging.getLogger("palitune.mine").info("seed %s", run.seed)
        if run.fail:
            raise DataError("boats.jsonl:1: no boats")
        Path(run.output_dir).mkdir(parents=True, exist_ok=True)
        Path(run.output_dir, "config.yaml").write_text(to_yaml(run))

    if __name__ == "__main__":
        finetune()
'''


def python(
    *arguments: str, folder: Path, sources: Path = ROOT / "src"
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(sources), "PYTHONPYCACHEPREFIX": BYTECODE}
    environment.pop("WANDB_MODE", None)  # transformers prints a line if it is "offline"
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # what is installed is compiled, too
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def palitune(
    *arguments: str, folder: Path, sources: Path = ROOT / "src"
) -> subprocess.CompletedProcess[str]:
    return python("-m", "palitune", *arguments, folder=folder, sources=sources)


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    file = tmp_path / "mine.py"
    file.write_text(textwrap.dedent(STORY).lstrip())
    return file


QUICK = {
    "the overview": ([], 0),
    "help": (["--help"], 0),
    "the help of a recipe": (["finetune", "--help"], 0),
    "the groups": (["list"], 0),
    "the settings of an option": (["list", "training", "default"], 0),
    "the composed configuration": (["finetune", "experiment=quickstart", "--cfg", "job"], 0),
    "a mistake": (["finetune", "experiment=quickstart", "training.global_batch_size=0"], 2),
    "a mistake in a name": (["evaluate", "experiment=quikstart"], 2),
    "a flag that does not exist": (["check", "--foo"], 2),
    "a recipe that does not exist": (["finetun"], 2),
}


@pytest.mark.parametrize(("arguments", "code"), QUICK.values(), ids=QUICK)
def test_an_answer_takes_little_more_than_hydra_itself(
    arguments: list[str], code: int, tmp_path: Path
) -> None:
    # In turns, and the least of each: machines differ in speed, and load makes both longer.
    importing_hydra, answering = [], []
    for _ in range(3):
        before = _seconds_of_children()
        assert python("-c", "import hydra.utils", folder=tmp_path).returncode == 0
        between = _seconds_of_children()
        done = palitune(*arguments, folder=tmp_path)
        importing_hydra.append(between - before)
        answering.append(_seconds_of_children() - between)
    # Composing a configuration measured 4 to 5 times the import; torch alone takes more than 9.
    assert min(answering) < 8 * min(importing_hydra)
    assert done.returncode == code, done.stderr
    assert bool(done.stdout) == (code == 0)
    assert done.stderr.count("\n") == (0 if code == 0 else 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["finetune", "--help"], ["finetune", "experiment=x"]])
def test_an_answer_needs_no_heavy_library(arguments: list[str], tmp_path: Path) -> None:
    done = python("-X", "importtime", "-m", "palitune", *arguments, folder=tmp_path)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "palitune.config" in imported
    assert imported.isdisjoint(HEAVY)


@pytest.mark.parametrize("recipe", ["finetune", "align", "evaluate", "predict"])
def test_the_help_of_a_copied_recipe_needs_no_heavy_library(recipe: str, tmp_path: Path) -> None:
    assert palitune("copy", recipe, "mine.py", folder=tmp_path).returncode == 0
    done = python("-X", "importtime", "mine.py", "--help", folder=tmp_path)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert done.returncode == 0, done.stderr
    assert "python mine.py" in done.stdout
    assert "palitune.config" in imported
    assert imported.isdisjoint(HEAVY)


def test_the_overview_lists_the_recipes_and_what_else_there_is(tmp_path: Path) -> None:
    done = palitune(folder=tmp_path)
    for word in (*RECIPE_CONFIGS, "palitune list", "palitune copy"):
        assert word in done.stdout
    assert palitune("-h", folder=tmp_path).stdout == done.stdout


def test_a_recipe_that_does_not_exist_is_answered_with_those_that_do(tmp_path: Path) -> None:
    assert palitune("finetun", folder=tmp_path).stderr == (
        "palitune: there is no recipe 'finetun' (did you mean 'finetune'?); "
        "valid are align, check, compare, evaluate, export, finetune, inspect, plan, predict, "
        "serve, list, copy, schema, completion\n"
    )


def test_a_copied_recipe_is_a_program_of_its_own(tmp_path: Path) -> None:
    assert palitune("copy", "finetune", "my_finetune.py", folder=tmp_path).returncode == 0
    shown = python(
        "my_finetune.py", "experiment=quickstart", "--cfg", "job", "seed=3", folder=tmp_path
    )
    assert shown.returncode == 0
    assert "\nseed: 3\n" in shown.stdout
    assert python("my_finetune.py", "--help", folder=tmp_path).stdout.startswith(
        "python my_finetune.py [FOLDER] key=value ...\n"
    )
    again = palitune("copy", "finetune", "my_finetune.py", folder=tmp_path)
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)


def test_a_story_of_ones_own_runs_into_exactly_the_folder_it_is_given(mine: Path) -> None:
    out = mine.parent / "out"
    done = python(
        mine.name, "experiment=quickstart", "output_dir=out", "seed=4", folder=mine.parent
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.endswith("seed 4\n")
    assert [file.name for file in out.iterdir()] == ["config.yaml"]
    assert sorted(file.name for file in mine.parent.iterdir()) == ["mine.py", "out"]


def test_a_story_that_fails_ends_with_its_sentence_and_leaves_no_folder(mine: Path) -> None:
    done = python(mine.name, "experiment=quickstart", "fail=true", folder=mine.parent)
    assert done.returncode == 1
    assert done.stderr.endswith("palitune: boats.jsonl:1: no boats\n")
    assert "Traceback" not in done.stderr
    assert list(mine.parent.iterdir()) == [mine]


def test_a_sweep_runs_every_job_in_a_folder_of_its_own(mine: Path) -> None:
    done = python(
        mine.name, "experiment=quickstart", "-m", "seed=1,2", "output_dir='a b'", folder=mine.parent
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        "job 1 of 2: seed=1 -> a b/0_seed=1\njob 2 of 2: seed=2 -> a b/1_seed=2\n"
        "sweep: 2 of 2 jobs done, in a b\n"
    )
    for number in (1, 2):
        config = mine.parent / "a b" / f"{number - 1}_seed={number}" / "config.yaml"
        assert f"\nseed: {number}\n" in config.read_text()


def test_a_job_that_fails_ends_no_other_and_says_why(mine: Path) -> None:
    done = python(
        mine.name, "experiment=quickstart", "-m", "fail=True,False", "output_dir=out",
        folder=mine.parent,
    )  # fmt: skip
    assert done.returncode == 1
    assert "\npalitune: boats.jsonl:1: no boats\n" in done.stderr
    assert done.stderr.endswith(
        "\npalitune: 1 of 2 jobs failed: fail=True (boats.jsonl:1: no boats)\n"
    )
    assert done.stdout.endswith("\nsweep: 1 of 2 jobs done, in out\n")
    out = mine.parent / "out"
    assert {file.name for file in out.iterdir()} == {"1_fail=False", "sweep.json"}
    sweep = json.loads((out / "sweep.json").read_text())
    assert sweep["recipe"] == "finetune"
    assert [(job["folder"], job["state"], job["error"]) for job in sweep["jobs"]] == [
        ("0_fail=True", "failed", "boats.jsonl:1: no boats"),
        ("1_fail=False", "done", ""),
    ]


def test_a_job_that_is_killed_ends_no_other(mine: Path) -> None:
    fails = 'raise DataError("boats.jsonl:1: no boats")'
    dies = "__import__('os').kill(__import__('os').getpid(), 9)"
    mine.write_text(mine.read_text().replace(fails, dies))
    told = ["experiment=quickstart", "-m", "fail=true,false", "output_dir=out"]
    done = python(mine.name, *told, folder=mine.parent)
    assert done.returncode == 1
    assert done.stderr.endswith("palitune: 1 of 2 jobs failed: fail=True (ended by SIGKILL)\n")
    assert (mine.parent / "out/1_fail=False/config.yaml").is_file()


def test_a_run_starts_again_from_its_folder(mine: Path) -> None:
    told = ["experiment=quickstart", "output_dir=first", "seed=9", "fail=false"]
    assert python(mine.name, *told, folder=mine.parent).returncode == 0
    told = ["--run", "first", "output_dir=second", "training.max_steps=3"]
    assert python(mine.name, *told, folder=mine.parent).returncode == 0
    second = (mine.parent / "second" / "config.yaml").read_text()
    assert "\nseed: 9\n" in second
    assert "\n  max_steps: 3\n" in second


def test_an_installed_wheel_brings_its_recipes_and_configuration(
    installed: Path, tmp_path: Path
) -> None:
    assert palitune(folder=tmp_path, sources=installed).stdout == palitune(folder=tmp_path).stdout
    code = "from palitune.paths import resource_dir as at; print(at('conf'), at('recipes'))"
    found = python("-c", code, folder=tmp_path, sources=installed).stdout.split()
    assert found == [str(installed / "palitune" / name) for name in ("conf", "recipes")]
    for name in ("conf", "recipes"):
        assert _files(installed / "palitune" / name) == _files(ROOT / name)


def test_an_installed_wheel_takes_options_of_ones_own_from_any_folder(
    installed: Path, tmp_path: Path
) -> None:
    (tmp_path / "own" / "experiment").mkdir(parents=True)
    (tmp_path / "own" / "experiment" / "boats.yaml").write_text(
        "# @package _global_\n# Boats.\n"
        "defaults: [override /data: coco, override /task: detection]\ndata: {path: boats}\n"
    )
    told = ["finetune", "--config-dir", "own", "experiment=boats"]
    shown = palitune(*told, "--cfg", "job", folder=tmp_path, sources=installed)
    assert shown.returncode == 0, shown.stderr
    assert "\n  path: boats\n" in shown.stdout


def test_an_editable_install_reads_the_configuration_of_the_checkout(tmp_path: Path) -> None:
    """It also leaves copies of conf/ and recipes/ in site-packages, which must not be read."""
    code = f"from hatchling.build import build_editable; print(build_editable({str(tmp_path)!r}))"
    built = python("-c", code, folder=ROOT)
    assert built.returncode == 0, built.stderr
    site = tmp_path / "site"
    zipfile.ZipFile(tmp_path / built.stdout.split()[-1]).extractall(site)
    assert (site / "palitune" / "conf" / "finetune.yaml").is_file()
    code = f"import site; site.addsitedir({str(site)!r})\n" + (
        "from palitune.paths import resource_dir as at; print(at('conf'), at('recipes'))"
    )
    found = python("-c", code, folder=tmp_path, sources=tmp_path).stdout.split()
    assert found == [str(ROOT / name) for name in ("conf", "recipes")]


def _seconds_of_children() -> float:
    """Return the CPU seconds of all child processes, which other load hardly changes."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _files(folder: Path) -> list[str]:
    kinds = ("*.py", "*.yaml")
    return sorted(str(file.relative_to(folder)) for kind in kinds for file in folder.rglob(kind))
