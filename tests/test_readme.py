"""Every command of README and site runs, with the embedded sizes where it would need a download."""

import re
import shlex
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from palitune import __main__ as program
from palitune.sweeps import launch_sweep
from palitune.sweeps.runner import Outcome

from support.toy_data import write_toy_coco, write_toy_jsonl

ROOT = Path(__file__).parents[1]
IN_ORDER = ["README.md", "docs/start/*.md", "docs/guides/*.md", "docs/[bmr]*/*.md"]
PAGES = [page for pattern in IN_ORDER for page in sorted(ROOT.glob(pattern))]
TEXT = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
SHORT = ["training.max_steps=2", "training.global_batch_size=2", "training.micro_batch_size=2"]
SHORT += ["training.eval_max_samples=2"]
FEW = ["evaluation.max_samples=2", "training.num_workers=0", "evaluation.num_workers=0"]


def commands() -> list[str]:
    """Every command line in a bash block once, continuation lines joined."""
    blocks = re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return list(dict.fromkeys(" ".join(line.split()) for line in lines if line))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder: what the README speaks of lies in it."""
    folder = tmp_path_factory.mktemp("home")
    write_toy_coco(folder / "boats")
    annotations = folder / "boats/annotations"
    for file in annotations.glob("*.json"):
        renamed = file.read_text().replace('"red"', '"boat"').replace('"blue"', '"buoy"')
        file.write_text(renamed)
    write_toy_jsonl(folder / "invoices")
    for name in ("photos", "scans"):
        shutil.copytree(folder / "boats/images", folder / name)
    for file in [*annotations.glob("*_validation.json"), folder / "invoices/validation.jsonl"]:
        file.unlink()  # the README takes a share of train instead
    return folder


class InThisProcess:
    """Does the jobs of a sweep one by one: processes would import the same each time."""

    def run(self, command: Sequence[str], resume_args: Sequence[str], log_file: Path) -> Outcome:
        assert command[:2] == ["-m", "palitune"]
        return program.run(list(command[2:])), ""

    def terminate(self) -> None: ...


@pytest.mark.parametrize("line", commands())
def test_a_command_of_the_readme_runs(
    line: str,
    home: Path,
    tiny: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(home)
    monkeypatch.setattr(launch_sweep, "make_runner", lambda settings, folder: InThisProcess())
    served: list[list[str]] = []
    monkeypatch.setattr(
        "palitune.serving.run.serve_http", lambda engine, *options: served.append(engine.names)
    )
    name, *arguments = shlex.split(line)
    if name.startswith("scripts/"):
        script = (ROOT / name).read_text()
        assert (ROOT / name).stat().st_mode & 0o100
        if name == "scripts/test":
            assert ".venv-test/bin/python -m pytest" in script
            return
        line = re.search(r"palitune (finetune .*) \"\$@\"", script)[1]  # type: ignore[index]
        arguments = shlex.split(line)
    else:
        assert name == "palitune"
    if arguments[:2] != ["finetune", "--multirun"]:
        arguments = substituted(arguments, tiny("paligemma2"), home)
    else:
        arguments += [*SHORT, *FEW, "data.parts.detection.task.max_new_tokens=16"]
        if "search=optuna" in arguments:
            arguments.append("search.n_trials=1")
    assert program.run(arguments) == 0, capfd.readouterr().err[-2000:]
    assert served == ([["invoices", "base"]] if "serve" in arguments else [])


def substituted(arguments: list[str], tiny: Path, home: Path) -> list[str]:
    """Put the random model for a released one, and few steps for many."""
    if "model=paligemma2" in arguments:
        arguments = [a for a in arguments if not a.startswith("model")]
        arguments += ["model=local", f"model.path={tiny}"]
    if arguments and arguments[0] == "finetune" and not any(a.startswith("--") for a in arguments):
        arguments += [*SHORT, *FEW]
    elif arguments and arguments[0] in ("evaluate", "check", "inspect", "predict"):
        arguments += FEW
    elif arguments and arguments[0] == "plan":
        arguments += ["released=false"]
    return arguments
