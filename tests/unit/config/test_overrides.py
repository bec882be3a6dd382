"""Parsing of overrides, setting of values, and the expansion of a sweep."""

from pathlib import Path

import pytest

from palitune.config.compose import compose
from palitune.config.overrides import expand_positional, expand_sweep, quote_value
from palitune.config.recipes import Compare, Finetune
from palitune.data.sources.coco import Coco
from palitune.errors import ConfigError
from palitune.tasks.detection import Detection, PromptClasses

from support.config_errors import BOATS


@pytest.mark.parametrize("path", ["~/boats", "/data/boats (2)", "été/b", "a=b", "C:\\boats", "a;b"])
def test_a_path_needs_no_quotes(path: str) -> None:
    run = compose(Finetune, [*BOATS, f"data.path={path}"])
    assert isinstance(run.data, Coco)
    assert run.data.path == path


@pytest.mark.parametrize("text", ["a b,c", "it's", "a\\", "\\'", "{[(", "", "null", "~/é = 1"])
def test_a_quoted_string_is_unchanged(text: str) -> None:
    assert compose(Finetune, [*BOATS, f"output_dir={quote_value(text)}"]).output_dir == text


def test_a_sweep_is_every_combination_in_order() -> None:
    assert list(expand_sweep(["seed=1,2", "task=ocr", "adapter.rank=range(4,13,8)"])) == [
        (["seed=1", "task=ocr", "adapter.rank=4"], ["seed=1", "adapter.rank=4"]),
        (["seed=1", "task=ocr", "adapter.rank=12"], ["seed=1", "adapter.rank=12"]),
        (["seed=2", "task=ocr", "adapter.rank=4"], ["seed=2", "adapter.rank=4"]),
        (["seed=2", "task=ocr", "adapter.rank=12"], ["seed=2", "adapter.rank=12"]),
    ]


def test_a_sweep_may_include_null() -> None:
    assert list(expand_sweep(["adapter.path=null,x"])) == [
        (["adapter.path=null"], ["adapter.path=null"]),
        (["adapter.path=x"], ["adapter.path=x"]),
    ]


def test_a_sweep_may_expand_the_options_of_a_group() -> None:
    assert [job for job, _ in expand_sweep(["adapter=glob(*lora)"])] == [
        ["adapter=lora"],
        ["adapter=qlora"],
    ]


def test_a_sweep_over_an_interval_is_an_error() -> None:
    with pytest.raises(ConfigError, match="list the values"):
        list(expand_sweep(["training.learning_rate=interval(0,1)"]))


def test_positional_arguments_are_a_list_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("0_adapter.rank=4,seed=1").mkdir()
    overrides = expand_positional(
        Compare, ["a b", "0_adapter.rank=4,seed=1", "out/seed=2", "baseline=a b"]
    )
    run = compose(Compare, overrides)
    assert run.runs == ["a b", "0_adapter.rank=4,seed=1", "out/seed=2"]
    assert run.baseline == "a b"
    assert expand_positional(Finetune, ["boats"]) == ["boats"]
    with pytest.raises(ConfigError, match="did you mean 'baseline'"):
        compose(Compare, expand_positional(Compare, ["a", "basline=b"]))


def test_values_have_the_types_of_their_fields() -> None:
    run = compose(
        Finetune,
        [
            *BOATS,
            "task.classes=[boat,buoy]",
            "task.prompt_classes=present",
            "training.learning_rate=1e-4",
            "training.max_steps=null",
            "data.splits.train=my/boats.json",
            "data.splits={test: other.json}",
            "evaluate_before=false",
        ],
    )
    assert isinstance(run.task, Detection)
    assert (run.task.classes, run.task.prompt_classes) == (["boat", "buoy"], PromptClasses.present)
    assert (run.training.learning_rate, run.training.max_steps) == (1e-4, None)
    assert isinstance(run.data, Coco)
    assert run.data.splits == {"train": "my/boats.json", "test": "other.json"}
    assert run.evaluate_before is False
