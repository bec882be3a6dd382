"""Help texts, `palitune list` and `palitune copy`."""

import re
from pathlib import Path

import pytest

from palitune.cli import help
from palitune.config.catalog import options, summary_line
from palitune.config.config_store import default_options
from palitune.config.recipes import GROUPS, Compare, Finetune, Inspect
from palitune.data.recognition.resolve import recognize_folder
from palitune.errors import ConfigError
from palitune.paths import resource_dir


def test_the_overview_lists_every_recipe_with_its_summary() -> None:
    text = help.overview()
    for file in resource_dir("recipes").glob("*.py"):
        assert f"  {file.stem} " in text
        assert summary_line(file) in text


def test_the_help_of_a_recipe_marks_defaults_and_describes_settings() -> None:
    text = help.recipe_help("palitune finetune", "finetune", Finetune, default_options(Finetune))
    assert "full [lora] qlora" in text
    assert re.search(r"  search_space +\[lora\] optimizer\n", text)
    assert re.search(r"coco csv cvat handwriting .*\(required\)", text)
    assert "  seed=0 " in text
    assert "--multirun" in text


def test_the_help_of_a_recipe_shows_ranges_and_positional_arguments() -> None:
    text = help.recipe_help("palitune inspect", "inspect", Inspect, {})
    assert re.search(r"  samples=8 .*suffix\. \(at least 0\)\n", text)
    text = help.recipe_help("palitune compare", "compare", Compare, {}, "runs")
    assert text.startswith("palitune compare RUNS ... key=value ...\n")


def test_list_prints_groups_options_and_settings() -> None:
    groups = help.list_command([], GROUPS).split()
    assert groups == sorted([*GROUPS, "debug", "experiment", "search_space"])
    assert "\n  vqa " in help.list_command(["task"], GROUPS)
    assert "adapter.rank: int = 16" in help.list_command(["adapter", "lora"], GROUPS)
    experiment = help.list_command(["experiment", "quickstart"], GROUPS)
    assert experiment == options("experiment")["demo/quickstart"].read_text().rstrip()


def test_list_prints_ranges() -> None:
    text = help.list_command(["runner", "local"], GROUPS)
    assert "runner.gpus_per_job: int = 0\n    GPUs reserved" in text
    assert text.endswith("(at least 0)")


@pytest.mark.parametrize(
    ("argv", "start"),
    [
        (["tasks"], "there is no group 'tasks' (did you mean 'task'?); valid are adapter, "),
        (["task", "--config-dir", "no"], "--config-dir no: this folder does not exist"),
        (["task", "orc"], "there is no task 'orc' (did you mean 'ocr'?); valid are "),
    ],
)
def test_an_unknown_group_or_option_is_an_error(argv: list[str], start: str) -> None:
    with pytest.raises(ConfigError) as error:
        help.list_command(argv, GROUPS)
    assert str(error.value).startswith(start)


def test_copy_copies_a_recipe_unchanged(tmp_path: Path) -> None:
    copy = tmp_path / "mine.py"
    assert f"python {copy}" in help.copy_command(["finetune", str(copy)])
    assert copy.read_text() == (resource_dir("recipes") / "finetune.py").read_text()


@pytest.mark.parametrize(
    ("argv", "end"),
    [
        (["finetune"], "palitune copy finetune my.py"),
        (["finetun", "new.py"], "(did you mean 'finetune'?); valid are "),
        (["finetune", "new.txt"], "must end in .py"),
        (["finetune", "there.py"], "there.py already exists; choose another file name"),
        (["finetune", "no/such/new.py"], "is not a folder; create it first"),
    ],
)
def test_copy_never_overwrites_a_file(
    argv: list[str], end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.py").write_text("precious")
    with pytest.raises(ConfigError) as error:
        help.copy_command(argv)
    assert end in str(error.value)
    assert [file.name for file in tmp_path.iterdir()] == ["there.py"]
    assert Path("there.py").read_text() == "precious"


def test_copy_writes_the_embedded_data_as_a_folder_that_is_recognized(tmp_path: Path) -> None:
    folder = tmp_path / "digits"
    assert f"palitune inspect {folder}" in help.copy_command(["handwriting", str(folder)])
    recognized = recognize_folder(str(folder))
    assert "data=coco" in recognized.settings
    assert "splits: train, validation, test, task: detection" in recognized.description
    with pytest.raises(ConfigError, match="already exists; choose another folder name"):
        help.copy_command(["handwriting", str(folder)])
