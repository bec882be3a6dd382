"""Every command of README and site runs, with the embedded sizes where it would need a download."""

import importlib
import json
import re
import shlex
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import pytest

from palitune import __main__ as program
from palitune.planning.measurements import MeasuredStep, load_measurements
from palitune.sweeps import launch_sweep
from palitune.sweeps.runner import Outcome

from support.toy_data import write_toy_coco, write_toy_jsonl

ROOT = Path(__file__).parents[1]
IN_ORDER = ["README.md", "docs/start/*.md", "docs/guides/*.md", "docs/[bmr]*/*.md"]
PAGES = [page for pattern in IN_ORDER for page in sorted(ROOT.glob(pattern))]
SHORT = ["training.max_steps=2", "training.global_batch_size=2", "training.micro_batch_size=2"]
SHORT += ["training.eval_max_samples=2"]
FEW = ["evaluation.max_samples=2", "training.num_workers=0", "evaluation.num_workers=0"]


def steps() -> list[str]:
    """Every command line in a bash block once, continuation lines joined, and the Python blocks
    that prepare a following command."""
    found: dict[str, None] = {}
    for page in PAGES:
        for kind, block in re.findall(r"```(bash|python)\n(.*?)```", page.read_text("utf-8"), re.S):
            if kind == "bash":
                lines = block.replace("\\\n", " ").splitlines()
                found |= dict.fromkeys(" ".join(line.split()) for line in lines if line)
            elif page.name == "label_loop.md":
                found[block] = None
    return list(found)


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
    write_captions(folder / "album", annotations.parent / "images")
    image = next((folder / "boats/images").iterdir())
    (folder / "pairs.jsonl").write_text(
        json.dumps(
            {
                "image": str(image),
                "prefix": "detect boat",
                "chosen": "<loc0128><loc0096><loc0639><loc0480> boat",
                "rejected": "<loc0000><loc0000><loc1023><loc1023> boat",
            }
        )
        + "\n"
    )
    for name in ("photos", "scans"):
        shutil.copytree(folder / "boats/images", folder / name)
    for file in [*annotations.glob("*_validation.json"), folder / "invoices/validation.jsonl"]:
        file.unlink()  # the README takes a share of train instead
    return folder


def write_captions(folder: Path, images: Path) -> None:
    """Two captions for each image, as in the guide on captions."""
    shutil.copytree(images, folder / "images")
    rows = [
        {"image": f"images/{file.name}", "captions": ["a red boat", "a boat at sea"]}
        for file in sorted(images.iterdir())
    ]
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))


def write_other_models(folder: Path) -> None:
    """Write predictions of a detector and of another model for the examples of two runs."""
    boats, invoices = (
        [json.loads(line) for line in (folder / f"outputs/{run}/predictions.jsonl").open()]
        for run in ("boats", "invoices")
    )
    objects = [
        {"image": Path(example["images"][0]).name, "category": "boat", "bbox": [1, 2, 30, 40]}
        for example in boats
    ]
    (folder / "yolo.json").write_text(json.dumps(objects))
    answers = [json.dumps({"id": example["id"], "text": "2"}) for example in invoices]
    (folder / "qwen.jsonl").write_text("\n".join(answers))


class InThisProcess:
    """Does the jobs of a sweep one by one: processes would import the same each time."""

    def run(self, command: Sequence[str], resume_args: Sequence[str], log_file: Path) -> Outcome:
        assert command[:2] == ["-m", "palitune"]
        return program.run(list(command[2:])), ""

    def terminate(self) -> None: ...


def test_the_steps_of_all_pages_run_in_order(
    home: Path,
    tiny: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """One test, because later pages use the runs of earlier ones."""
    monkeypatch.chdir(home)
    monkeypatch.setattr(launch_sweep, "make_runner", lambda settings, folder: InThisProcess())
    served: list[list[str]] = []
    monkeypatch.setattr(
        "palitune.serving.run.serve_http", lambda engine, *options: served.append(engine.names)
    )
    failed = {}
    for step in steps():
        if step.startswith("palitune compare outputs/boats"):
            write_other_models(home)
        if step.startswith("import "):
            exec(compile(step, "a page", "exec"), {})
        elif program.run(arguments_of(step, tiny("paligemma2"))) != 0:
            failed[step] = capfd.readouterr().err[-500:]
    assert not failed, "\n".join(f"{step}: {error}" for step, error in failed.items())
    assert served == [["invoices", "base"]]


def arguments_of(step: str, tiny: Path) -> list[str]:
    """Return the shortened arguments of a command line."""
    name, *arguments = shlex.split(step)
    if name.startswith("scripts/"):
        assert (ROOT / name).stat().st_mode & 0o100
        found = re.search(r"palitune (finetune .*) \"\$@\"", (ROOT / name).read_text())
        assert found
        arguments = shlex.split(found[1])
    else:
        assert name == "palitune"
    if any(a.startswith("launch=") or a in ("runner=slurm", "runner=ray") for a in arguments):
        arguments = [a.replace("rank=8,16", "rank=8") for a in arguments if a != "--multirun"]
        return [*arguments, "--cfg", "job"]  # several processes have tests of their own
    if arguments[:2] != ["finetune", "--multirun"]:
        return substituted(arguments, tiny)
    arguments = [a for a in arguments if not a.startswith("runner.")]  # one by one in this process
    arguments += [*SHORT, *FEW]
    if "experiment=quickstart" in arguments:
        arguments.append("data.parts.detection.task.max_new_tokens=16")
    return [*arguments, "search.n_trials=1"] if "search=optuna" in arguments else arguments


def substituted(arguments: list[str], tiny: Path) -> list[str]:
    """Put the random model for a released one, and few steps for many."""
    if "model=paligemma2" in arguments:
        arguments = [a for a in arguments if not a.startswith("model")]
        arguments += ["model=local", f"model.path={tiny}"]
    if arguments and arguments[0] == "align":
        arguments += [a.replace("batch_size=2", "batch_size=4") for a in (*SHORT, *FEW)]
    elif (
        arguments and arguments[0] == "finetune" and not any(a.startswith("--") for a in arguments)
    ):
        arguments += [*SHORT, *FEW]
    elif arguments and arguments[0] in ("evaluate", "check", "inspect", "predict"):
        arguments += FEW
    elif arguments and arguments[0] == "export":
        arguments += ["samples=1"]
    elif arguments and arguments[0] == "plan":
        arguments += ["released=false"]
    return arguments


@pytest.fixture
def gpu_figures(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """`python scripts/build/gpu_figures.py` writes the figures of the README."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts" / "build"))
    return importlib.import_module("gpu_figures")


def test_gpu_figures_are_those_of_measurements_and_planner(gpu_figures: ModuleType) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    figures = gpu_figures.gpu_figures(load_measurements())
    assert gpu_figures.readme_with(figures, text) == text


def test_measured_figures_carry_the_name_of_the_card(gpu_figures: ModuleType) -> None:
    step = MeasuredStep("NVIDIA H200", "paligemma2 3b 224 px, lora, 8 rows", 80.0, 12.5, 1.5)
    text = gpu_figures.gpu_figures([step])
    assert "| NVIDIA H200 | samples/s | peak GiB | against transformers with PEFT |" in text
    assert "| paligemma2 3b 224 px, lora, 8 rows | 80 | 12.5 | 1.50x as fast |" in text
    assert "No figure was measured" not in text
