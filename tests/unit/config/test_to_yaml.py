"""The saved configuration of a run composes to the same run."""

from pathlib import Path

import pytest

from palitune.config.compose import compose
from palitune.config.recipes import Finetune
from palitune.config.to_yaml import to_yaml

from support.config_errors import BOATS, QUICKSTART

RUN_OVERRIDES = [
    [*QUICKSTART, "seed=3", "data.parts.ocr.repeat=2"],
    [*BOATS, "adapter=full", "tracking=wandb", "task.classes=[boat,'a, b',\"null\",1e3]"],
    [*BOATS, "adapter=qlora", "training.learning_rate=1e-7", "data.splits.train=x.json"],
]


@pytest.mark.parametrize("overrides", RUN_OVERRIDES)
def test_the_saved_configuration_composes_to_the_same_run(
    overrides: list[str], tmp_path: Path
) -> None:
    first = compose(Finetune, [*overrides, "output_dir=first"])
    (tmp_path / "config.yaml").write_text(to_yaml(first))
    again = compose(Finetune, ["output_dir=first"], run_folder=str(tmp_path))
    assert again == first
    assert to_yaml(again) == to_yaml(first)


def test_the_saved_configuration_is_an_experiment(tmp_path: Path) -> None:
    first = compose(Finetune, [*QUICKSTART, "output_dir=first"])
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(to_yaml(first))
    run = compose(Finetune, ["experiment=mine", "output_dir=first"], config_dir=str(tmp_path))
    assert run == first


def test_the_saved_configuration_has_plain_values_and_no_code() -> None:
    text = to_yaml(compose(Finetune, [*QUICKSTART, "output_dir=first"]))
    assert "written to first\n" in text
    assert "  schedule: linear\n" in text
    assert "!!" not in text
    assert "palitune" not in text
