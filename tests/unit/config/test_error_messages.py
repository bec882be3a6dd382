"""Error messages of the configuration: one sentence each."""

from pathlib import Path

import pytest

from palitune.config.compose import compose
from palitune.config.recipes import Compare
from palitune.errors import ConfigError

from support.config_errors import BOATS, QUICKSTART, config_error_message

ERRORS = {
    "a key that does not exist": (
        [*BOATS, "training.lerning_rate=1"],
        "there is no key 'training.lerning_rate' (did you mean 'learning_rate'?); "
        "the keys of training are global_batch_size, micro_batch_size, ",
    ),
    "a key of another option": (
        [*BOATS, "adapter=full", "adapter.rank=4"],
        "there is no key 'adapter.rank'",
    ),
    "a group that does not exist": (
        [*BOATS, "experimnt=quickstart"],
        "there is no key 'experimnt' (did you mean 'experiment'?); the keys are adapter, ",
    ),
    "an option that does not exist": (
        [*BOATS, "adapter=lorra"],
        "there is no adapter 'lorra' (did you mean 'lora'?); valid are full, lora, qlora",
    ),
    "an experiment that does not exist": (
        ["experiment=quikstart"],
        "there is no experiment 'quikstart' (did you mean 'quickstart'?); valid are ",
    ),
    "a number for a group": ([*BOATS, "training=5"], "there is no training '5'; valid are default"),
    "nothing for a group": (
        [*BOATS, "model=null"],
        "model is missing: choose one of local, paligemma, paligemma2, tiny (model=local)",
    ),
    "no data": (
        [],
        "data is missing: choose one of benchmark, coco, csv, cvat, handwriting, hub, ",
    ),
    "no task": (["data=handwriting"], "task is missing: choose one of "),
    "a task beside a mixture": ([*QUICKSTART, "task=ocr"], "task must not be set for a mixture"),
    "a value of a task that is not chosen": (
        ["data=handwriting", "task.classes=[a]"],
        "task.classes=[a]: task is missing: choose one of ",
    ),
    "a value that has to be given": (
        ["data=coco", "task=detection"],
        "data.path is missing: write data.path=... (Folder of the data",
    ),
    "text for a number": (
        [*BOATS, "training.global_batch_size=many"],
        "training.global_batch_size=many: the value must be a whole number, got 'many'",
    ),
    "null for a number": (
        [*BOATS, "training.global_batch_size=null"],
        "training.global_batch_size=null: the value cannot be null",
    ),
    "a text for a list": ([*BOATS, "task.metrics=anls"], "task.metrics=anls: "),
    "a member that an enum lacks": (
        [*BOATS, "training.optimizer=adam"],
        "training.optimizer=adam: the value must be one of adamw, ",
    ),
    "a value out of its range": (
        [*BOATS, "training.global_batch_size=0"],
        "training.global_batch_size must be at least 1, got 0.",
    ),
    "a key below a value": (
        [*BOATS, "training.global_batch_size.x=1"],
        "training.global_batch_size.x=1: ",
    ),
    "a part that a mixture lacks": (
        [*QUICKSTART, "data.parts.boats.repeat=2"],
        "there is no key 'data.parts.boats'; the keys of data.parts are ocr, detection, vqa",
    ),
    "an option inside a mixture that does not exist": (
        [*QUICKSTART, "task@data.parts.ocr.task=ocrr"],
        "there is no task 'ocrr' (did you mean 'ocr'?); valid are caption, ",
    ),
    "a place that no option was composed at": (
        [*BOATS, "task@data.parts.ocr.task=ocr"],
        "Could not override 'task@data.parts.ocr.task'",
    ),
    "a key to add": ([*BOATS, "+seed=1"], "+seed=1: a key cannot be added; write seed=1"),
    "a key to force": ([*BOATS, "++seed=1"], "++seed=1: a key cannot be added; write seed=1"),
    "a key to delete": ([*BOATS, "~tracking"], "~tracking: a key cannot be deleted; "),
    "a setting of Hydra": ([*BOATS, "hydra.run.dir=x"], "hydra.run.dir=x: Hydra's own settings "),
    "no value": ([*BOATS, "training"], "'training' is not key=value"),
    "no key": ([*BOATS, "=3"], "there is no key ''"),
    "an open bracket": ([*BOATS, "task.classes=[a"], "'task.classes=[a' is not key=value; quote "),
    "several values": ([*BOATS, "seed=1,2"], "seed=1,2 has several values: add --multirun "),
    "a search space without a search": (
        [*BOATS, "search_space=lora"],
        "search_space has no effect without a search; set search=optuna",
    ),
    "a search space that does not exist": (
        [*BOATS, "search=optuna", "search_space=lorra"],
        "there is no search_space 'lorra' (did you mean 'lora'?); valid are lora, optimizer",
    ),
    "an interpolation of a key that does not exist": (
        [*BOATS, "seed=${no.such}"],
        "seed: Interpolation key 'no.such' ",
    ),
}


@pytest.mark.parametrize(("overrides", "start"), ERRORS.values(), ids=ERRORS)
def test_an_error_is_one_sentence_with_its_place(overrides: list[str], start: str) -> None:
    assert config_error_message(*overrides).startswith(start)


@pytest.mark.parametrize(
    ("content", "start"),
    {
        "training: {lerning_rate: 1}": "experiment/mine.yaml: there is no key 'training.lerning_r",
        "training: {seed: 1}": "experiment/mine.yaml: there is no key 'training.seed'",
        "sed: 1": "experiment/mine.yaml: there is no key 'sed' (did you mean 'seed'?); ",
        "seed: many": "experiment/mine.yaml: seed: Value 'many' of type 'str' could not be ",
        "defaults: [/schema/task/ocrr@_here_]": "experiment/mine.yaml: there is no schema/task ",
        "seed: [1": "FOLDER/experiment/mine.yaml:3: invalid YAML: ",
        "- 1": "experiment/mine.yaml: Cannot merge ",
    }.items(),
)
def test_an_error_in_a_file_starts_with_the_file(tmp_path: Path, content: str, start: str) -> None:
    (tmp_path / "experiment").mkdir()
    file = tmp_path / "experiment" / "mine.yaml"
    file.write_text(f"# @package _global_\n{content}\n")
    text = config_error_message(*BOATS, "experiment=mine", config_dir=str(tmp_path))
    assert text.startswith(start.replace("FOLDER", str(tmp_path)))


def test_an_unknown_option_in_an_experiment_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    file = tmp_path / "experiment" / "mine.yaml"
    file.write_text("# @package _global_\ndefaults: [override /model: tny]\n")
    text = config_error_message(*BOATS, "experiment=mine", config_dir=str(tmp_path))
    assert text.startswith("there is no model 'tny' (did you mean 'tiny'?); valid are ")


def test_a_comparison_without_runs_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"runs are missing: .* palitune compare RUN"):
        compose(Compare)
    with pytest.raises(ConfigError, match="compare does not support --run"):
        compose(Compare, ["runs=[a]"], run_folder="earlier")
