"""Options on the command line replace those of an experiment and keep only shared settings."""

from pathlib import Path

import pytest

from palitune.config.compose import compose
from palitune.config.recipes import Evaluate, Finetune, Predict
from palitune.config.to_yaml import to_yaml
from palitune.data.images.augmentation import NoAugmentation
from palitune.data.sources.coco import Coco
from palitune.data.sources.embedded import EmbeddedAnnotationKind, Handwriting
from palitune.data.sources.masks.instance import InstanceMasks
from palitune.data.sources.mixture import Mixture
from palitune.models.adapters.config import Full, Lora
from palitune.tasks.detection import Detection
from palitune.tasks.ocr import Ocr

from support.config_errors import QUICKSTART, config_error_message

DOCVQA = ["experiment=docvqa"]


def finetune(*overrides: str, **config_source: str) -> Finetune:
    run = compose(Finetune, overrides, **config_source)
    assert isinstance(run, Finetune)
    return run


def test_settings_of_a_replaced_adapter_or_augmentation_are_dropped() -> None:
    run = finetune(*QUICKSTART, "adapter=full", "augmentation=none", "adapter.path=x")
    assert (run.adapter, run.augmentation) == (Full(path="x"), NoAugmentation())
    assert run.training == finetune(*QUICKSTART).training
    assert "no key 'adapter.rank'" in config_error_message(
        *QUICKSTART, "adapter=full", "adapter.rank=4"
    )


def test_dropped_settings_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    finetune(*QUICKSTART, "adapter=qlora")
    assert not caplog.messages
    finetune(*QUICKSTART, "adapter=full")
    assert caplog.messages == [
        "adapter=full has no rank, alpha, targets; their values in the experiment are ignored"
    ]


def test_adapters_replace_the_adapter_of_an_earlier_run(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(to_yaml(finetune(*QUICKSTART)))
    (tmp_path / "adapter").mkdir()
    paths = {}
    for overrides in ([], ["adapters=[null,one]"]):
        run = compose(Evaluate, overrides, run_folder=str(tmp_path))
        paths[len(overrides)] = [each.adapter.path for each in run.per_adapter()]
    assert paths == {0: [str(tmp_path / "adapter")], 1: [None, "one"]}


def test_the_components_of_a_replaced_mixture_are_dropped() -> None:
    run = finetune(*QUICKSTART, "data=handwriting", "task=ocr", "data.annotations=ocr")
    assert (run.data, run.task) == (Handwriting(annotations=EmbeddedAnnotationKind.ocr), Ocr())


def test_data_and_task_keep_the_settings_that_they_share_with_the_experiment() -> None:
    run = finetune(*DOCVQA, "data=coco", "task=detection")
    assert run.data == Coco(path="data/docvqa")
    assert run.task == Detection(max_new_tokens=32)  # ANLS scores texts


def test_a_name_of_another_type_is_not_shared() -> None:
    assert finetune(*DOCVQA, "data=instance_masks").data == InstanceMasks(path="data/docvqa")


def test_an_option_inside_a_mixture_can_be_replaced() -> None:
    place = "data.parts.ocr.data"
    run = finetune(*QUICKSTART, f"data@{place}=coco", f"{place}.path=boats")
    assert isinstance(run.data, Mixture)
    assert run.data.parts["ocr"].data == Coco(path="boats")
    assert run.data.parts["vqa"].data == Handwriting(annotations=EmbeddedAnnotationKind.vqa)
    assert "task is missing: choose" in config_error_message(
        *QUICKSTART, "task@data.parts.ocr.task=null"
    )


def test_settings_of_a_group_set_to_null_are_dropped() -> None:
    run = compose(Predict, [*DOCVQA, "data=null", "task=null", "images=x", "prompt=y"])
    assert (run.data, run.task) == (None, None)


def test_an_option_of_an_earlier_run_can_be_replaced(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(to_yaml(finetune(*QUICKSTART, "seed=3")))
    run = finetune("adapter=full", "augmentation=none", run_folder=str(tmp_path))
    assert (run.seed, type(run.adapter), run.augmentation) == (3, Full, NoAugmentation())
    data = finetune("data=handwriting", "task=ocr", run_folder=str(tmp_path)).data
    assert isinstance(data, Handwriting)


@pytest.fixture
def user_dir(tmp_path: Path) -> Path:
    """A folder with options that build on bundled ones."""
    for name, text in {
        "adapter/small": "defaults: [/schema/adapter/lora@_here_]\nrank: 2\n",
        "adapter/smaller": "defaults: [small]\nrank: 1\n",
        "experiment/mine": (
            "# @package _global_\ndefaults: [quickstart, override /adapter: smaller]\nseed: 7\n"
        ),
        "experiment/sea/mistaken": "# @package _global_\nadapter: {rank: 2}\nsed: 1\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{name}.yaml").write_text(text)
    return tmp_path


def test_an_experiment_that_builds_on_another_is_filtered_with_it(user_dir: Path) -> None:
    config_source = {"config_dir": str(user_dir)}
    overrides = ["experiment=mine", "augmentation=none"]
    run = finetune(*overrides, **config_source)
    assert (run.seed, run.augmentation) == (7, NoAugmentation())
    assert isinstance(run.adapter, Lora)
    assert (run.adapter.rank, run.adapter.alpha) == (16, 32)
    assert finetune(*overrides, "adapter=full", **config_source).adapter == Full()
    assert finetune(*QUICKSTART, "adapter=small", **config_source).adapter == run.adapter


def test_an_error_in_a_filtered_experiment_names_its_file(user_dir: Path) -> None:
    overrides = ["data=handwriting", "task=ocr", "adapter=full", "experiment=sea/mistaken"]
    message = config_error_message(*overrides, config_dir=str(user_dir))
    assert message.startswith("experiment/sea/mistaken.yaml: there is no key 'sed' (did you mean ")


def test_a_setting_that_no_option_has_is_an_error_of_the_experiment(user_dir: Path) -> None:
    (user_dir / "experiment/mine.yaml").write_text("# @package _global_\nadapter: {rnk: 2}\n")
    message = config_error_message(
        "experiment=mine", "adapter=full", "data=handwriting", config_dir=str(user_dir)
    )
    assert message.startswith("experiment/mine.yaml: there is no key 'adapter.rnk'")


def test_an_experiment_builds_on_one_in_its_folder_or_on_one_with_a_unique_name(
    user_dir: Path,
) -> None:
    for name, base in {"sea/mistaken": "", "sea/boats": "mine", "sea/ships": "boats"}.items():
        text = f"# @package _global_\ndefaults: [{base}]\n"
        (user_dir / f"experiment/{name}.yaml").write_text(text)
    for experiment in ("mine", "boats", "sea/ships"):
        run = finetune(f"experiment={experiment}", config_dir=str(user_dir))
        assert run.seed == 7
        assert isinstance(run.data, Mixture)
        assert isinstance(run.adapter, Lora)
        assert run.adapter.rank == 16


def test_an_ambiguous_name_of_an_experiment_is_an_error(user_dir: Path) -> None:
    for folder in ("sea", "lake"):
        file = user_dir / f"experiment/{folder}/boats.yaml"
        file.parent.mkdir(exist_ok=True)
        file.write_text("# @package _global_\nseed: 1\n")
    message = config_error_message("experiment=boats", config_dir=str(user_dir))
    assert message == "experiment=boats is ambiguous: choose one of lake/boats, sea/boats"


def test_a_bare_name_and_a_full_name_are_the_same_experiment() -> None:
    full = finetune("experiment=documents/docvqa", "output_dir=out")
    assert finetune(*DOCVQA, "output_dir=out") == full
