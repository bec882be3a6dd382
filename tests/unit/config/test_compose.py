"""Composition of options, experiments and values into one typed run."""

import re
from pathlib import Path

import pytest

from palitune.config.compose import compose
from palitune.config.recipes import Check, Evaluate, Finetune, ModelRecipeConfig
from palitune.config.to_yaml import to_yaml
from palitune.data.sources.coco import Coco
from palitune.data.sources.embedded import EmbeddedAnnotationKind, Handwriting
from palitune.data.sources.mixture import Mixture
from palitune.errors import ConfigError
from palitune.models.adapters.config import Full, Lora, Qlora
from palitune.models.config import PaliGemma2, Tiny
from palitune.report.trackers.config import NullTrackerConfig, WandbConfig
from palitune.tasks.detection import Detection
from palitune.tasks.ocr import Ocr
from palitune.tasks.vqa import Vqa

from support.config_errors import BOATS, QUICKSTART, config_error_message


def test_a_choice_is_a_type() -> None:
    run = compose(Finetune, [*BOATS, "adapter=qlora", "tracking=wandb"])
    assert type(run) is Finetune
    assert type(run.data) is Coco
    assert type(run.task) is Detection
    assert type(run.model) is PaliGemma2
    assert type(run.adapter) is Qlora
    assert type(run.tracking) is WandbConfig


def test_defaults_are_those_of_the_recipe_and_of_the_dataclass() -> None:
    run = compose(Evaluate, BOATS)
    assert (type(run), type(run.adapter), type(run.tracking)) == (Evaluate, Lora, NullTrackerConfig)
    assert run.adapter == Lora()
    assert (run.seed, run.evaluate_before) == (0, True)


def test_the_components_of_a_mixture_are_typed() -> None:
    run = compose(Finetune, QUICKSTART)
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
        Finetune,
        [*QUICKSTART, "data.parts.ocr.repeat=3", "task@data.parts.ocr.task=vqa"],
    )
    assert isinstance(run.data, Mixture)
    assert (run.data.parts["ocr"].repeat, type(run.data.parts["ocr"].task)) == (3, Vqa)


def test_the_command_line_overrides_an_experiment_and_keeps_its_other_values() -> None:
    run = compose(Finetune, [*QUICKSTART, "adapter=qlora", "training.max_steps=5"])
    assert run.adapter == Qlora(rank=16, alpha=32, targets=["language.mlp", "vision", "projector"])
    assert run.training.max_steps == 5


@pytest.mark.parametrize("schema", [Finetune, Evaluate, Check])
def test_an_experiment_fits_every_recipe_also_with_debug(schema: type[ModelRecipeConfig]) -> None:
    run = compose(schema, [*QUICKSTART, "adapter.path=somewhere", "debug=fast"])
    assert type(run) is schema
    assert (run.adapter.path, run.training.max_steps) == ("somewhere", 4)


def test_debug_overfit_evaluates_on_the_training_batch() -> None:
    run = compose(Finetune, [*BOATS, "debug=overfit", "training.global_batch_size=8"])
    assert isinstance(run.data, Coco)
    assert (run.data.max_samples, run.training.split, run.evaluation.split) == (8, "train", "train")


def test_full_finetuning_accepts_the_settings_of_all_adapters() -> None:
    assert compose(Finetune, [*BOATS, "adapter=full", "adapter.path=x"]).adapter == Full(path="x")


def test_the_default_output_folder_is_named_by_recipe_and_time() -> None:
    pattern = r"outputs/evaluate/\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d"
    assert re.fullmatch(pattern, compose(Evaluate, BOATS).output_dir)
    assert compose(Evaluate, [*BOATS, "output_dir=here"]).output_dir == "here"


def test_the_users_folder_adds_options(tmp_path: Path) -> None:
    user_dir = tmp_path / "my conf, 'too'"
    (user_dir / "data").mkdir(parents=True)
    (user_dir / "data" / "boats.yaml").write_text(
        "defaults: [/schema/data/coco@_here_]\npath: boats\n"
    )
    (user_dir / "experiment" / "sea").mkdir(parents=True)
    (user_dir / "experiment" / "sea" / "boats.yaml").write_text(
        "# @package _global_\ndefaults: [override /data: boats, override /task: detection]\n"
        "training: {learning_rate: 1e-4}\n"
    )
    run = compose(Finetune, ["experiment=sea/boats"], config_dir=str(user_dir))
    assert isinstance(run.data, Coco)
    assert (run.data.path, run.training.learning_rate) == ("boats", 1e-4)


def test_a_users_option_cannot_have_the_name_of_a_bundled_one(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "coco.yaml").write_text("path: boats\n")
    assert "Palitune already has an option of this name" in config_error_message(
        *BOATS, config_dir=str(tmp_path)
    )


def test_the_users_folder_must_exist(tmp_path: Path) -> None:
    assert "this folder does not exist" in config_error_message(
        *BOATS, config_dir=str(tmp_path / "nowhere")
    )


def test_a_second_run_from_a_run_folder_has_another_output_folder(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(to_yaml(compose(Finetune, QUICKSTART)))
    assert compose(Finetune, run_folder=str(tmp_path)).output_dir.startswith("outputs/finetune/")


def test_an_evaluation_from_a_run_folder_uses_its_adapter(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(to_yaml(compose(Finetune, QUICKSTART)))
    (tmp_path / "adapter").mkdir()
    run_folder = {"run_folder": str(tmp_path)}
    assert compose(Evaluate, **run_folder).adapter.path == str(tmp_path / "adapter")
    assert compose(Evaluate, ["adapter.path=null"], **run_folder).adapter.path is None
    assert compose(Finetune, **run_folder).adapter.path is None


def test_a_run_folder_must_have_a_configuration_and_excludes_an_experiment(tmp_path: Path) -> None:
    assert "config.yaml does not exist; use a run folder" in config_error_message(
        run_folder=str(tmp_path)
    )
    (tmp_path / "config.yaml").write_text(to_yaml(compose(Finetune, QUICKSTART)))
    assert "remove experiment=quickstart" in config_error_message(
        *QUICKSTART, run_folder=str(tmp_path)
    )


def test_composing_does_not_change_hydras_global_state() -> None:
    from hydra.core.global_hydra import GlobalHydra

    compose(Finetune, BOATS)
    assert not GlobalHydra.instance().is_initialized()


def test_an_option_with_a_name_too_long_for_a_file_is_a_sentence(tmp_path: Path) -> None:
    text = f"defaults:\n- override /launch: {'x' * 5000}\n"
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ConfigError, match="the configuration cannot be read: File name too long"):
        compose(Evaluate, run_folder=str(tmp_path))
