"""YAML, options and values become one typed run."""

import re
from pathlib import Path

import pytest

from palitune.config import Check, Evaluate, Finetune, ModelRecipeConfig, compose, to_yaml
from palitune.data.sources.coco import Coco
from palitune.data.sources.embedded import EmbeddedAnnotationKind, Handwriting
from palitune.data.sources.mixture import Mixture
from palitune.models.adapters.config import Full, Lora, Qlora
from palitune.models.config import PaliGemma2, Tiny
from palitune.report.trackers.config import NullTrackerConfig, WandbConfig
from palitune.tasks.detection import Detection
from palitune.tasks.ocr import Ocr
from palitune.tasks.vqa import Vqa

from support.config_errors import BOATS, QUICKSTART, config_error_message


def test_a_choice_is_a_type() -> None:
    run = compose("finetune", [*BOATS, "adapter=qlora", "tracking=wandb"])
    assert type(run) is Finetune
    assert type(run.data) is Coco
    assert type(run.task) is Detection
    assert type(run.model) is PaliGemma2
    assert type(run.adapter) is Qlora
    assert type(run.tracking) is WandbConfig


def test_what_is_not_chosen_is_the_default_of_the_root_or_of_the_dataclass() -> None:
    run = compose("evaluate", BOATS)
    assert (type(run), type(run.adapter), type(run.tracking)) == (Evaluate, Lora, NullTrackerConfig)
    assert run.adapter == Lora()
    assert (run.seed, run.evaluate_before) == (0, True)


def test_the_parts_of_a_mixture_are_typed_too() -> None:
    run = compose("finetune", QUICKSTART)
    assert type(run.model) is Tiny
    assert run.task is None
    assert isinstance(run.data, Mixture)
    assert {
        name: (type(part.task), part.data.annotations)
        for name, part in run.data.parts.items()
        if isinstance(part.data, Handwriting)
    } == {
        "ocr": (Ocr, EmbeddedAnnotationKind.ocr),
        "vqa": (Vqa, EmbeddedAnnotationKind.vqa),
        "detection": (Detection, EmbeddedAnnotationKind.detection),
    }


def test_values_and_options_inside_a_mixture_can_be_set() -> None:
    run = compose(
        "finetune",
        [*QUICKSTART, "data.parts.ocr.repeat=3", "task@data.parts.ocr.task=vqa"],
    )
    assert isinstance(run.data, Mixture)
    assert (run.data.parts["ocr"].repeat, type(run.data.parts["ocr"].task)) == (3, Vqa)


def test_the_command_line_wins_over_an_experiment_and_keeps_its_values() -> None:
    run = compose("finetune", [*QUICKSTART, "adapter=qlora", "training.max_steps=5"])
    assert run.adapter == Qlora(rank=16, alpha=32, targets=["language.mlp", "vision", "projector"])
    assert run.training.max_steps == 5


@pytest.mark.parametrize("schema", [Finetune, Evaluate, Check])
def test_an_experiment_serves_every_recipe_also_in_debug(schema: type[ModelRecipeConfig]) -> None:
    name = schema.__name__.lower()
    run = compose(name, [*QUICKSTART, "adapter.path=somewhere", "debug=fast"])
    assert type(run) is schema
    assert (run.adapter.path, run.training.max_steps) == ("somewhere", 4)


def test_overfitting_judges_one_batch_on_itself() -> None:
    run = compose("finetune", [*BOATS, "debug=overfit", "training.global_batch_size=8"])
    assert isinstance(run.data, Coco)
    assert (run.data.max_samples, run.training.split, run.evaluation.split) == (8, "train", "train")


def test_full_training_takes_the_values_that_all_adapters_share() -> None:
    assert compose("finetune", [*BOATS, "adapter=full", "adapter.path=x"]).adapter == Full(path="x")


def test_a_run_without_a_folder_gets_one_named_by_its_recipe_and_time() -> None:
    pattern = r"outputs/evaluate/\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d"
    assert re.fullmatch(pattern, compose("evaluate", BOATS).output_dir)
    assert compose("evaluate", [*BOATS, "output_dir=here"]).output_dir == "here"


def test_a_folder_of_ones_own_adds_options(tmp_path: Path) -> None:
    own = tmp_path / "my conf, 'too'"
    (own / "data").mkdir(parents=True)
    (own / "data" / "boats.yaml").write_text("defaults: [/schema/data/coco@_here_]\npath: boats\n")
    (own / "experiment" / "sea").mkdir(parents=True)
    (own / "experiment" / "sea" / "boats.yaml").write_text(
        "# @package _global_\ndefaults: [override /data: boats, override /task: detection]\n"
        "training: {learning_rate: 1e-4}\n"
    )
    run = compose("finetune", ["experiment=sea/boats"], config_dir=str(own))
    assert isinstance(run.data, Coco)
    assert (run.data.path, run.training.learning_rate) == ("boats", 1e-4)


def test_an_option_of_ones_own_cannot_hide_a_bundled_one(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "coco.yaml").write_text("path: boats\n")
    assert "Palitune has an option of that name" in config_error_message(
        *BOATS, config_dir=str(tmp_path)
    )


def test_a_folder_of_ones_own_must_exist(tmp_path: Path) -> None:
    assert "there is no such folder" in config_error_message(
        *BOATS, config_dir=str(tmp_path / "nowhere")
    )


def test_a_second_run_from_a_run_folder_goes_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(to_yaml(compose("finetune", QUICKSTART)))
    assert compose("finetune", run_folder=str(tmp_path)).output_dir.startswith("outputs/finetune/")


def test_an_evaluation_of_a_run_folder_judges_its_adapter(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(to_yaml(compose("finetune", QUICKSTART)))
    (tmp_path / "adapter").mkdir()
    places = {"run_folder": str(tmp_path)}
    assert compose("evaluate", **places).adapter.path == str(tmp_path / "adapter")
    assert compose("evaluate", ["adapter.path=null"], **places).adapter.path is None
    assert compose("finetune", **places).adapter.path is None


def test_a_run_folder_brings_its_experiment_and_must_be_one(tmp_path: Path) -> None:
    assert "name the folder of an earlier run" in config_error_message(run_folder=str(tmp_path))
    (tmp_path / "config.yaml").write_text(to_yaml(compose("finetune", QUICKSTART)))
    assert "leave out experiment=quickstart" in config_error_message(
        *QUICKSTART, run_folder=str(tmp_path)
    )


def test_composing_leaves_hydra_as_it_was() -> None:
    from hydra.core.global_hydra import GlobalHydra

    compose("finetune", BOATS)
    assert not GlobalHydra.instance().is_initialized()
