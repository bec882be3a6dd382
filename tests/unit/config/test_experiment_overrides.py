"""An option that is chosen besides an experiment takes of it what it understands, and no more."""

from pathlib import Path

import pytest

from palitune.config import Evaluate, Finetune, Predict, compose, to_yaml
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


def finetune(*overrides: str, **places: str) -> Finetune:
    run = compose("finetune", overrides, **places)
    assert isinstance(run, Finetune)
    return run


def test_what_an_experiment_says_of_an_adapter_or_augmentation_goes_with_it() -> None:
    run = finetune(*QUICKSTART, "adapter=full", "augmentation=none", "adapter.path=x")
    assert (run.adapter, run.augmentation) == (Full(path="x"), NoAugmentation())
    assert run.training == finetune(*QUICKSTART).training
    assert "no key 'adapter.rank'" in config_error_message(
        *QUICKSTART, "adapter=full", "adapter.rank=4"
    )


def test_what_is_left_out_of_an_experiment_is_said(caplog: pytest.LogCaptureFixture) -> None:
    finetune(*QUICKSTART, "adapter=qlora")
    assert not caplog.messages
    finetune(*QUICKSTART, "adapter=full")
    assert caplog.messages == [
        "adapter=full has no rank, alpha, targets: what the experiment says of it is left out"
    ]


def test_several_adapters_are_judged_instead_of_the_one_of_an_earlier_run(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(to_yaml(finetune(*QUICKSTART)))
    (tmp_path / "adapter").mkdir()
    paths = {}
    for told in ([], ["adapters=[null,one]"]):
        run = compose("evaluate", told, run_folder=str(tmp_path))
        assert isinstance(run, Evaluate)
        paths[len(told)] = [one.adapter.path for one in run.per_adapter()]
    assert paths == {0: [str(tmp_path / "adapter")], 1: [None, "one"]}


def test_the_parts_of_a_mixture_go_with_it() -> None:
    run = finetune(*QUICKSTART, "data=handwriting", "task=ocr", "data.annotations=ocr")
    assert (run.data, run.task) == (Handwriting(annotations=EmbeddedAnnotationKind.ocr), Ocr())


def test_data_and_a_task_keep_what_they_share_with_those_of_an_experiment() -> None:
    run = finetune(*DOCVQA, "data=coco", "task=detection")
    assert run.data == Coco(path="data/docvqa")
    assert run.task == Detection(metrics=["anls_paper", "anls_rrc"], max_new_tokens=32)


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


def test_what_is_set_to_null_takes_what_was_said_of_it_along() -> None:
    run = compose("predict", [*DOCVQA, "data=null", "task=null", "images=x", "prompt=y"])
    assert isinstance(run, Predict)
    assert (run.data, run.task) == (None, None)


def test_an_earlier_run_can_be_given_another_option(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(to_yaml(finetune(*QUICKSTART, "seed=3")))
    run = finetune("adapter=full", "augmentation=none", run_folder=str(tmp_path))
    assert (run.seed, type(run.adapter), run.augmentation) == (3, Full, NoAugmentation())
    data = finetune("data=handwriting", "task=ocr", run_folder=str(tmp_path)).data
    assert isinstance(data, Handwriting)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Options of one's own that build on bundled ones."""
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


def test_an_experiment_that_builds_on_another_is_left_as_one_that_says_all(own: Path) -> None:
    places = {"config_dir": str(own)}
    told = ["experiment=mine", "augmentation=none"]
    run = finetune(*told, **places)
    assert (run.seed, run.augmentation) == (7, NoAugmentation())
    assert isinstance(run.adapter, Lora)
    assert (run.adapter.rank, run.adapter.alpha) == (16, 32)
    assert finetune(*told, "adapter=full", **places).adapter == Full()
    assert finetune(*QUICKSTART, "adapter=small", **places).adapter == run.adapter


def test_a_mistake_in_what_is_left_of_an_experiment_names_its_file(own: Path) -> None:
    told = ["data=handwriting", "task=ocr", "adapter=full", "experiment=sea/mistaken"]
    said = config_error_message(*told, config_dir=str(own))
    assert said.startswith("experiment/sea/mistaken.yaml: there is no key 'sed' (did you mean ")


def test_what_no_option_has_is_a_mistake_of_the_experiment_as_before(own: Path) -> None:
    (own / "experiment/mine.yaml").write_text("# @package _global_\nadapter: {rnk: 2}\n")
    said = config_error_message(
        "experiment=mine", "adapter=full", "data=handwriting", config_dir=str(own)
    )
    assert said.startswith("experiment/mine.yaml: there is no key 'adapter.rnk'")
