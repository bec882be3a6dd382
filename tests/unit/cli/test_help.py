"""What the command line says of recipes, groups, options and settings."""

import re
from dataclasses import dataclass, field, fields
from enum import Enum
from pathlib import Path

import pytest

from palitune.cli import help
from palitune.cli.help import FieldDoc
from palitune.config.recipes import GROUPS, Finetune
from palitune.errors import ConfigError, did_you_mean
from palitune.paths import resource_dir


class Colour(Enum):
    red = "red"
    blue = "blue"


@dataclass(kw_only=True)
class Boat:
    length: int
    """In metres,
    from bow to stern."""
    colour: Colour = Colour.red
    owner: str | None = None
    """Who sails it."""


@dataclass(kw_only=True)
class Ferry(Boat):
    colour: Colour = Colour.blue
    harbours: list[str] = field(default_factory=lambda: ["Kiel", "Oslo"])
    cars: dict[str, int] = field(default_factory=dict)
    open: bool = True
    """On deck."""


def test_settings_are_read_off_the_source_with_their_sentences() -> None:
    assert help.field_docs(Ferry) == [
        FieldDoc("length", "int", "", "In metres, from bow to stern."),
        FieldDoc("colour", "red | blue", "blue", ""),
        FieldDoc("owner", "str | null", "null", "Who sails it."),
        FieldDoc("harbours", "list[str]", "['Kiel', 'Oslo']", ""),
        FieldDoc("cars", "dict[str, int]", "{}", ""),
        FieldDoc("open", "bool", "true", "On deck."),
    ]


def test_every_setting_of_every_option_is_found() -> None:
    for types in GROUPS.values():
        for schema in types.values():
            names = {setting.name for setting in help.field_docs(schema)}
            assert names == {field.name for field in fields(schema)}


def test_the_first_line_of_a_recipe_is_its_docstring_and_of_a_yaml_its_comment(
    tmp_path: Path,
) -> None:
    (tmp_path / "a.py").write_text('"""Sail.\n\nFar."""\nraise SystemExit\n')
    (tmp_path / "a.yaml").write_text("# @package _global_\n# Boats.\n# More.\nseed: 1\n")
    (tmp_path / "b.yaml").write_text("seed: 1\n")
    files = ["a.py", "a.yaml", "b.yaml"]
    assert [help.summary_line(tmp_path / file) for file in files] == ["Sail.", "Boats.", ""]


def test_options_lie_in_folders_below_a_group_too(tmp_path: Path) -> None:
    (tmp_path / "experiment" / "sea").mkdir(parents=True)
    (tmp_path / "experiment" / "sea" / "boats.yaml").touch()
    options = help.options("experiment", str(tmp_path))
    assert options["sea/boats"] == tmp_path / "experiment" / "sea" / "boats.yaml"
    assert "quickstart" in options


def test_a_near_word_is_offered_and_a_far_one_is_not() -> None:
    assert did_you_mean("lorra", ["lora", "full"]) == " (did you mean 'lora'?)"
    assert did_you_mean("boat", ["lora", "full"]) == ""


def test_a_command_line_is_taken_apart_wherever_its_flags_stand() -> None:
    request = help.parse_arguments(["a=1", "--config-dir=own", "b=-2", "-m", "--run", "out", "c=3"])
    assert request.overrides == ["a=1", "b=-2", "c=3"]
    assert (request.config_dir, request.run_folder) == ("own", "out")
    assert (request.multirun, request.show_config, request.help) == (True, False, False)
    assert request.config_flags == ["--config-dir", "own", "--run", "out"]


@pytest.mark.parametrize(
    ("arguments", "start"),
    [
        (["--multirn"], "there is no flag --multirn (did you mean '--multirun'?); valid are --cfg"),
        (["--conf-dir=x"], "there is no flag --conf-dir=x (did you mean '--config-dir'?); "),
        (["-x"], "there is no flag -x; "),
        (["--cfg", "hydra"], "argument --cfg: invalid choice: 'hydra'"),
        (["--config-dir"], "argument --config-dir: expected one argument"),
    ],
)
def test_a_flag_that_does_not_exist_is_one_sentence(arguments: list[str], start: str) -> None:
    with pytest.raises(ConfigError) as caught:
        help.parse_arguments(arguments)
    assert str(caught.value).startswith(start)


def test_the_overview_names_every_recipe_with_its_first_line() -> None:
    text = help.overview()
    for file in resource_dir("recipes").glob("*.py"):
        assert f"  {file.stem} " in text
        assert help.summary_line(file) in text


def test_the_help_of_a_recipe_marks_defaults_and_explains_values() -> None:
    defaults = {"data": "???", "adapter": "lora", "experiment": ""}
    text = help.recipe_help("palitune finetune", "finetune", defaults, Finetune)
    assert "full [lora] qlora" in text
    assert re.search(r"coco handwriting .*\(must be chosen\)", text)
    assert "  seed=0 " in text
    assert "--multirun" in text


def test_list_goes_from_groups_to_options_to_settings() -> None:
    assert help.list_command([], GROUPS).split() == sorted([*GROUPS, "debug", "experiment"])
    assert "\n  vqa " in help.list_command(["task"], GROUPS)
    assert "adapter.rank: int = 16" in help.list_command(["adapter", "lora"], GROUPS)
    experiment = help.list_command(["experiment", "quickstart"], GROUPS)
    assert experiment == (resource_dir("conf/experiment/quickstart.yaml")).read_text().rstrip()


@pytest.mark.parametrize(
    ("what", "start"),
    [
        (["tasks"], "there is no group 'tasks' (did you mean 'task'?); valid are adapter, "),
        (["task", "--config-dir", "no"], "--config-dir no: there is no such folder"),
        (["task", "orc"], "there is no option of task 'orc' (did you mean 'ocr'?); valid are "),
    ],
)
def test_list_answers_what_does_not_exist(what: list[str], start: str) -> None:
    with pytest.raises(ConfigError) as caught:
        help.list_command(what, GROUPS)
    assert str(caught.value).startswith(start)


def test_copy_takes_a_recipe_home_as_it_stands(tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    assert f"python {mine}" in help.copy_command(["finetune", str(mine)])
    assert mine.read_text() == (resource_dir("recipes") / "finetune.py").read_text()


@pytest.mark.parametrize(
    ("arguments", "end"),
    [
        (["finetune"], "palitune copy finetune my.py"),
        (["finetun", "new.py"], "(did you mean 'finetune'?); valid are "),
        (["finetune", "new.txt"], "must end in .py"),
        (["finetune", "there.py"], "exists already; nothing was copied"),
        (["finetune", "no/such/new.py"], "is not a folder; create it first"),
    ],
)
def test_copy_refuses_what_would_hurt(
    arguments: list[str], end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.py").write_text("precious")
    with pytest.raises(ConfigError) as caught:
        help.copy_command(arguments)
    assert end in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["there.py"]
    assert Path("there.py").read_text() == "precious"
