"""YAML and overrides become one typed run, or one sentence."""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from palitune import commands
from palitune.config import (
    Check,
    Compare,
    ConfigError,
    Evaluate,
    Finetune,
    Run,
    combinations,
    compose,
    quoted,
    recipe,
    to_yaml,
    with_words,
)
from palitune.data.mixture import Mixture
from palitune.data.sources.coco import Coco
from palitune.data.sources.handwriting import Annotations, Handwriting
from palitune.models.adapters import Full, Lora, Qlora
from palitune.models.checkpoints import PaliGemma2, Tiny
from palitune.report.trackers import NoTracking, Wandb
from palitune.runs import RUNS
from palitune.tasks.detection import Ask, Detection
from palitune.tasks.ocr import Ocr
from palitune.tasks.vqa import Vqa

BOATS = ["data=coco", "data.path=boats", "task=detection"]
QUICKSTART = ["experiment=quickstart"]


def sentence(*overrides: str, recipe: str = "finetune", **places: str) -> str:
    with pytest.raises(ConfigError) as caught:
        compose(recipe, overrides, **places)
    text = str(caught.value)
    assert text.count("\n") == 0
    return text


def test_a_choice_is_a_type() -> None:
    run = compose("finetune", [*BOATS, "adapter=qlora", "tracking=wandb"])
    assert type(run) is Finetune
    assert type(run.data) is Coco
    assert type(run.task) is Detection
    assert type(run.model) is PaliGemma2
    assert type(run.adapter) is Qlora
    assert type(run.tracking) is Wandb


def test_what_is_not_chosen_is_the_default_of_the_root_or_of_the_dataclass() -> None:
    run = compose("evaluate", BOATS)
    assert (type(run), type(run.adapter), type(run.tracking)) == (Evaluate, Lora, NoTracking)
    assert run.adapter == Lora()
    assert (run.seed, run.evaluate_before) == (0, True)


def test_values_arrive_with_the_types_of_their_fields() -> None:
    run = compose(
        "finetune",
        [
            *BOATS,
            "task.classes=[boat,buoy]",
            "task.ask=present",
            "training.learning_rate=1e-4",
            "training.max_steps=null",
            "data.splits.train=my/boats.json",
            "data.splits={test: other.json}",
            "evaluate_before=false",
        ],
    )
    assert isinstance(run.task, Detection)
    assert (run.task.classes, run.task.ask) == (["boat", "buoy"], Ask.present)
    assert (run.training.learning_rate, run.training.max_steps) == (1e-4, None)
    assert isinstance(run.data, Coco)
    assert run.data.splits == {"train": "my/boats.json", "test": "other.json"}
    assert run.evaluate_before is False


@pytest.mark.parametrize("path", ["~/boats", "/data/boats (2)", "été/b", "a=b", "C:\\boats", "a;b"])
def test_a_path_needs_no_quotes(path: str) -> None:
    run = compose("finetune", [*BOATS, f"data.path={path}"])
    assert isinstance(run.data, Coco)
    assert run.data.path == path


@pytest.mark.parametrize("text", ["a b,c", "it's", "a\\", "\\'", "{[(", "", "null", "~/é = 1"])
def test_a_quoted_text_arrives_as_it_was(text: str) -> None:
    assert compose("finetune", [*BOATS, f"output_dir={quoted(text)}"]).output_dir == text


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
        "ocr": (Ocr, Annotations.ocr),
        "vqa": (Vqa, Annotations.vqa),
        "detection": (Detection, Annotations.detection),
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
    assert run.adapter == Qlora(rank=16, alpha=32, targets=["language", "vision", "projector"])
    assert run.training.max_steps == 5


@pytest.mark.parametrize("schema", [Finetune, Evaluate, Check])
def test_an_experiment_serves_every_recipe_also_in_debug(schema: type[Run]) -> None:
    name = schema.__name__.lower()
    run = compose(name, [*QUICKSTART, "adapter.path=somewhere", "debug=fast"])
    assert type(run) is schema
    assert (run.adapter.path, run.training.max_steps) == ("somewhere", 4)


def test_overfitting_judges_one_batch_on_itself() -> None:
    run = compose("finetune", [*BOATS, "debug=overfit", "training.batch_size=8"])
    assert isinstance(run.data, Coco)
    assert (run.data.limit, run.training.split, run.evaluation.split) == (8, "train", "train")


def test_a_run_without_a_folder_gets_one_named_by_its_recipe_and_time() -> None:
    pattern = r"outputs/evaluate/\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d"
    assert re.fullmatch(pattern, compose("evaluate", BOATS).output_dir)
    assert compose("evaluate", [*BOATS, "output_dir=here"]).output_dir == "here"


MISTAKES = {
    "a key that does not exist": (
        [*BOATS, "training.lerning_rate=1"],
        "there is no key 'training.lerning_rate' (did you mean 'learning_rate'?); "
        "the keys of training are batch_size, micro_batch_size, ",
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
        "data is missing: choose one of benchmark, coco, handwriting, hub, ",
    ),
    "no task": (["data=handwriting"], "task is missing: choose one of "),
    "a task beside a mixture": ([*QUICKSTART, "task=ocr"], "task: the parts of a mixture bring "),
    "a value of a task that is not chosen": (
        ["data=handwriting", "task.classes=[a]"],
        "task.classes=[a]: task is missing: choose one of ",
    ),
    "a value that has to be given": (
        ["data=coco", "task=detection"],
        "data.path is missing: write data.path=... (Folder of the data",
    ),
    "text for a number": (
        [*BOATS, "training.batch_size=many"],
        "training.batch_size=many: Value 'many' of type 'str' could not be converted to Integer",
    ),
    "null for a number": (
        [*BOATS, "training.batch_size=null"],
        "training.batch_size=null: it cannot be null",
    ),
    "a text for a list": ([*BOATS, "task.metrics=anls"], "task.metrics=anls: "),
    "a member that an enum lacks": (
        [*BOATS, "training.optimizer=adam"],
        "training.optimizer=adam: Invalid value 'adam', expected one of [adamw, ",
    ),
    "a value out of its range": (
        [*BOATS, "training.batch_size=0"],
        "training.batch_size must be at least 1, not 0",
    ),
    "a key below a value": ([*BOATS, "training.batch_size.x=1"], "training.batch_size.x=1: "),
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
    "a key to add": ([*BOATS, "+seed=1"], "+seed=1: no key can be added; write seed=1"),
    "a key to force": ([*BOATS, "++seed=1"], "++seed=1: no key can be added; write seed=1"),
    "a key to delete": ([*BOATS, "~tracking"], "~tracking: nothing can be deleted; "),
    "a setting of Hydra": ([*BOATS, "hydra.run.dir=x"], "hydra.run.dir=x: Hydra's own settings "),
    "no value": ([*BOATS, "training"], "'training' is not key=value"),
    "no key": ([*BOATS, "=3"], "there is no key ''"),
    "an open bracket": ([*BOATS, "task.classes=[a"], "'task.classes=[a' is not key=value; put "),
    "several values": ([*BOATS, "seed=1,2"], "seed=1,2 names several values: add --multirun "),
    "a reference to nothing": ([*BOATS, "seed=${no.such}"], "seed: Interpolation key 'no.such' "),
}


@pytest.mark.parametrize(("overrides", "start"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_sentence_that_names_it(overrides: list[str], start: str) -> None:
    assert sentence(*overrides).startswith(start)


def test_a_recipe_that_does_not_exist_is_named() -> None:
    assert sentence(recipe="finetun").startswith("there is no recipe 'finetun' (did you mean")


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


@pytest.mark.parametrize(
    ("content", "start"),
    {
        "training: {lerning_rate: 1}": "experiment/mine.yaml: there is no key 'training.lerning_r",
        "training: {seed: 1}": "experiment/mine.yaml: there is no key 'training.seed'",
        "sed: 1": "experiment/mine.yaml: there is no key 'sed' (did you mean 'seed'?); ",
        "seed: many": "experiment/mine.yaml: seed: Value 'many' of type 'str' could not be ",
        "defaults: [/schema/task/ocrr@_here_]": "experiment/mine.yaml: there is no schema/task ",
        "seed: [1": "FOLDER/experiment/mine.yaml:3: this is not YAML: ",
        "- 1": "experiment/mine.yaml: Cannot merge ",
    }.items(),
)
def test_a_mistake_in_a_file_names_the_file(tmp_path: Path, content: str, start: str) -> None:
    (tmp_path / "experiment").mkdir()
    file = tmp_path / "experiment" / "mine.yaml"
    file.write_text(f"# @package _global_\n{content}\n")
    text = sentence(*BOATS, "experiment=mine", config_dir=str(tmp_path))
    assert text.startswith(start.replace("FOLDER", str(tmp_path)))


def test_an_experiment_that_overrides_with_what_does_not_exist_is_answered(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    file = tmp_path / "experiment" / "mine.yaml"
    file.write_text("# @package _global_\ndefaults: [override /model: tny]\n")
    text = sentence(*BOATS, "experiment=mine", config_dir=str(tmp_path))
    assert text.startswith("there is no model 'tny' (did you mean 'tiny'?); valid are ")


def test_an_option_of_ones_own_cannot_hide_a_bundled_one(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "coco.yaml").write_text("path: boats\n")
    assert "Palitune has an option of that name" in sentence(*BOATS, config_dir=str(tmp_path))


def test_a_folder_of_ones_own_must_exist(tmp_path: Path) -> None:
    assert "there is no such folder" in sentence(*BOATS, config_dir=str(tmp_path / "nowhere"))


RUN_OVERRIDES = [
    [*QUICKSTART, "seed=3", "data.parts.ocr.repeat=2"],
    [*BOATS, "adapter=full", "tracking=wandb", "task.classes=[boat,'a, b',\"null\",1e3]"],
    [*BOATS, "adapter=qlora", "training.learning_rate=1e-7", "data.splits.train=x.json"],
]


@pytest.mark.parametrize("overrides", RUN_OVERRIDES)
def test_what_a_run_folder_says_composes_to_the_same_run(
    overrides: list[str], tmp_path: Path
) -> None:
    first = compose("finetune", [*overrides, "output_dir=first"])
    (tmp_path / "config.yaml").write_text(to_yaml(first))
    again = compose("finetune", ["output_dir=first"], run_folder=str(tmp_path))
    assert again == first
    assert to_yaml(again) == to_yaml(first)


def test_what_a_run_folder_says_is_an_experiment_for_a_folder_of_ones_own(tmp_path: Path) -> None:
    first = compose("finetune", [*QUICKSTART, "output_dir=first"])
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(to_yaml(first))
    run = compose("finetune", ["experiment=mine", "output_dir=first"], config_dir=str(tmp_path))
    assert run == first


def test_what_a_run_folder_says_holds_plain_values_and_no_code() -> None:
    text = to_yaml(compose("finetune", [*QUICKSTART, "output_dir=first"]))
    assert "written to first\n" in text
    assert "  schedule: linear\n" in text
    assert "!!" not in text
    assert "palitune" not in text


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
    assert "name the folder of an earlier run" in sentence(run_folder=str(tmp_path))
    (tmp_path / "config.yaml").write_text(to_yaml(compose("finetune", QUICKSTART)))
    assert "leave out experiment=quickstart" in sentence(*QUICKSTART, run_folder=str(tmp_path))


def test_a_sweep_is_every_combination_in_order() -> None:
    assert list(combinations(["seed=1,2", "task=ocr", "adapter.rank=range(4,13,8)"])) == [
        (["seed=1", "task=ocr", "adapter.rank=4"], ["seed=1", "adapter.rank=4"]),
        (["seed=1", "task=ocr", "adapter.rank=12"], ["seed=1", "adapter.rank=12"]),
        (["seed=2", "task=ocr", "adapter.rank=4"], ["seed=2", "adapter.rank=4"]),
        (["seed=2", "task=ocr", "adapter.rank=12"], ["seed=2", "adapter.rank=12"]),
    ]


def test_a_sweep_can_go_over_null() -> None:
    assert list(combinations(["adapter.path=null,x"])) == [
        (["adapter.path=null"], ["adapter.path=null"]),
        (["adapter.path=x"], ["adapter.path=x"]),
    ]


def test_a_sweep_can_go_over_all_options_of_a_group() -> None:
    assert [job for job, _ in combinations(["adapter=glob(*lora)"])] == [
        ["adapter=lora"],
        ["adapter=qlora"],
    ]


def test_a_sweep_over_an_interval_is_refused() -> None:
    with pytest.raises(ConfigError, match="list them"):
        list(combinations(["training.learning_rate=interval(0,1)"]))


def test_bare_words_are_the_list_that_a_recipe_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("0_adapter.rank=4,seed=1").mkdir()
    told = with_words("compare", ["a b", "0_adapter.rank=4,seed=1", "out/seed=2", "baseline=a b"])
    run = compose("compare", told)
    assert isinstance(run, Compare)
    assert run.runs == ["a b", "0_adapter.rank=4,seed=1", "out/seed=2"]
    assert run.baseline == "a b"
    assert with_words("finetune", ["boats"]) == ["boats"]
    with pytest.raises(ConfigError, match="did you mean 'baseline'"):
        compose("compare", with_words("compare", ["a", "basline=b"]))


def test_a_comparison_of_nothing_says_what_to_write() -> None:
    with pytest.raises(ConfigError, match=r"runs are missing: .* palitune compare RUN"):
        compose("compare")
    with pytest.raises(ConfigError, match="compare takes no --run"):
        compose("compare", ["runs=[a]"], run_folder="earlier")


def test_a_recipe_called_with_a_run_tells_its_story() -> None:
    told = []

    @recipe(Finetune)
    def finetune(run: Finetune) -> None:
        """A story."""
        told.append(run)

    run = compose("finetune", BOATS)
    assert isinstance(run, Finetune)
    finetune(run)
    assert told == [run]
    assert finetune.__doc__ == "A story."


def test_a_schema_of_ones_own_adds_settings_to_the_recipe_it_inherits_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(RUNS, "finetune", Finetune)

    @dataclass(kw_only=True)
    class Mine(Finetune):
        shout: bool = False

    try:
        recipe(Mine)
        run = compose("finetune", [*BOATS, "shout=true"])
        assert isinstance(run, Mine)
        assert run.shout
    finally:
        recipe(Finetune)
    assert "there is no key 'shout'" in sentence(*BOATS, "shout=true")


def test_the_configuration_of_a_checkout_is_the_one_beside_its_sources() -> None:
    root = Path(__file__).parents[2]
    assert commands.bundled("conf").resolve() == root / "conf"
    assert commands.bundled("recipes").resolve() == root / "recipes"


def test_composing_leaves_hydra_as_it_was() -> None:
    from hydra.core.global_hydra import GlobalHydra

    compose("finetune", BOATS)
    assert not GlobalHydra.instance().is_initialized()


def test_full_training_takes_the_values_that_all_adapters_share() -> None:
    assert compose("finetune", [*BOATS, "adapter=full", "adapter.path=x"]).adapter == Full(path="x")
