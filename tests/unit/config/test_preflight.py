"""Checks before torch is imported."""

import subprocess
import sys
from pathlib import Path

import pytest

from palitune.config.compose import compose
from palitune.config.preflight import check_run
from palitune.config.recipes import RECIPE_CONFIGS
from palitune.errors import DataError, ModelError
from palitune.metrics import METRICS

from support.toy_data import write_toy_coco


@pytest.fixture
def coco(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    write_toy_coco(Path("boxes"))
    return ["data=coco", "data.path=boxes", "task=detection", "model=tiny"]


@pytest.mark.parametrize(
    ("recipe", "override", "message"),
    [
        ("check", "data.path=nowhere", "data.path: nowhere does not exist"),
        ("check", "training.split=extra", "boxes: no split 'extra'"),
        ("finetune", "training.validation_split=extra", "boxes: no split 'extra'"),
        ("evaluate", "evaluation.split=extra", "boxes: no split 'extra'"),
        ("inspect", "splits=[extra]", "boxes: no split 'extra'"),
        ("evaluate", "adapter.path=nowhere", "adapter.path: folder nowhere does not exist"),
        ("finetune", "adapter.path=boxes", "adapter.path: boxes holds no adapter"),
        ("evaluate", "adapters=[null,nowhere]", "adapters: folder nowhere does not exist"),
        ("predict", "images=nowhere", "images: nowhere does not exist"),
    ],
)
def test_a_missing_path_or_split_is_found(
    recipe: str, override: str, message: str, coco: list[str]
) -> None:
    argv = ["images=boxes/images"] * (recipe == "predict") + [*coco, override]
    with pytest.raises((ModelError, DataError), match=message):
        check_run(compose(RECIPE_CONFIGS[recipe], argv))


def test_a_valid_run_passes(coco: list[str]) -> None:
    for recipe in ("finetune", "evaluate", "check", "inspect", "plan"):
        check_run(compose(RECIPE_CONFIGS[recipe], coco))


def test_the_configuration_of_a_metric_without_its_package_can_be_shown(
    monkeypatch: pytest.MonkeyPatch, coco: list[str]
) -> None:
    def missing() -> None:
        raise DataError("same_molecule needs the package rdkit")

    monkeypatch.setitem(METRICS, "same_molecule", missing)  # type: ignore[arg-type]
    argv = ["task=text", "task.metrics=[same_molecule]", *coco[:2], "model=tiny"]
    run = compose(RECIPE_CONFIGS["finetune"], argv)
    with pytest.raises(DataError, match="needs the package rdkit"):
        check_run(run)


def test_mistakes_are_found_without_torch(coco: list[str]) -> None:
    program = (
        "import sys; from palitune import __main__ as p; code = p.run(sys.argv[1:]); "
        "print(code, 'torch' in sys.modules)"
    )
    command = [sys.executable, "-c", program, "check", *coco, "data.path=nowhere"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "1 False\n"
    assert done.stderr == (
        "palitune: data.path: nowhere does not exist. Set it to the folder of the data.\n"
    )


def test_a_closed_pipe_is_silent() -> None:
    command = f"{sys.executable} -m palitune list task | true"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert done.stderr == ""
