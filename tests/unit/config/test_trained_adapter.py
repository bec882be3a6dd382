"""Settings that a run takes from the adapter it loads."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from palitune.config.compose import compose
from palitune.config.recipes import Evaluate, Finetune, Predict
from palitune.config.trained_adapter import write_adapter_settings
from palitune.data.sources.mixture import Mixture
from palitune.tasks.detection import Detection
from palitune.tasks.ocr import Ocr

BOATS = ["data=coco", "data.path=boats"]


def component(name: str) -> Any:
    row = SimpleNamespace(classes=("boat", "buoy"))
    return SimpleNamespace(name=name, examples=SimpleNamespace(row=lambda index: row))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Return the folder of a run that was trained on a COCO file, without `task.classes`."""
    trained = compose(
        Finetune,
        [
            *BOATS, "task=detection", "task.max_objects=7", "model=tiny", "model.device=cpu",
            "evaluation.num_beams=3", "evaluation.split=val", "evaluation.batch_size=5",
        ],
    )  # fmt: skip
    (tmp_path / "run/adapter").mkdir(parents=True)
    (tmp_path / "run/adapter/palitune.json").write_text("{}")
    write_adapter_settings(tmp_path / "run/adapter", trained, [component("detection")])
    return tmp_path / "run"


def test_predict_needs_nothing_but_the_adapter(run: Path) -> None:
    settings = compose(Predict, [f"adapter.path={run}", "images=photos"])
    assert isinstance(settings.task, Detection)
    assert settings.task.classes == ["boat", "buoy"]
    assert settings.task.max_objects == 7
    assert settings.model.name == "tiny"
    assert settings.adapter.path == str(run / "adapter")


def test_settings_of_machine_and_split_are_not_those_of_the_training(run: Path) -> None:
    settings = compose(Evaluate, [f"adapter.path={run}", *BOATS])
    assert settings.evaluation == replace(
        compose(Evaluate, [*BOATS, "task=ocr"]).evaluation, num_beams=3
    )
    assert settings.model.device.name == "auto"


def test_the_command_line_has_priority(run: Path) -> None:
    argv = [f"adapter.path={run}/adapter", *BOATS, "task=ocr", "model=paligemma"]
    settings = compose(Evaluate, argv)
    assert settings.task == Ocr()
    assert settings.model == compose(Evaluate, [*BOATS, "task=ocr", "model=paligemma"]).model
    same = compose(Evaluate, [*argv[:3], "task=detection", "task.max_objects=2"])
    assert isinstance(same.task, Detection)
    assert (same.task.classes, same.task.max_objects) == (["boat", "buoy"], 2)


def test_an_earlier_run_has_the_classes_of_its_data(run: Path) -> None:
    settings = compose(Predict, ["images=photos"], run_folder=str(run))
    assert isinstance(settings.task, Detection)
    assert settings.task.classes == ["boat", "buoy"]


def test_the_tasks_of_a_mixture_get_the_classes_of_their_components(tmp_path: Path) -> None:
    trained = compose(Finetune, ["experiment=quickstart"])
    assert isinstance(trained.data, Mixture)
    names = [name for name, part in trained.data.parts.items() if isinstance(part.task, Detection)]
    for name in names:
        trained.data.parts[name].task.classes.clear()
    (tmp_path / "palitune.json").write_text("{}")
    write_adapter_settings(tmp_path, trained, [component(name) for name in trained.data.parts])
    argv = [f"adapter.path={tmp_path}", "images=photos", "prompt=detect boat"]
    tasks = compose(Predict, argv).mixture_tasks()
    assert [task.classes for task in tasks if isinstance(task, Detection)] == (
        [["boat", "buoy"]] * len(names)
    )
    assert names
