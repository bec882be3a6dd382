"""Every YAML file composes, has a header line, and has the name of its dataclass."""

import re
from itertools import cycle
from pathlib import Path

import pytest

from palitune.config import catalog
from palitune.config.compose import compose
from palitune.config.config_store import default_options
from palitune.config.recipes import GROUPS, RECIPE_CONFIGS, ModelRecipeConfig, RecipeConfig
from palitune.data.images.augmentation import AUGMENTATIONS
from palitune.data.registry import SOURCES
from palitune.distributed.strategies import STRATEGIES
from palitune.errors import ConfigError
from palitune.models.adapters.config import ADAPTERS
from palitune.models.config import MODELS
from palitune.report.trackers.config import TRACKER_CONFIGS
from palitune.tasks import TASKS

CONF = Path(__file__).parents[2] / "conf"
FILES = sorted(CONF.rglob("*.yaml"))
OPTIONS = [file for file in FILES if file.parent != CONF]
OTHER_CHOICES = ["data=handwriting", "task=ocr", "model=tiny"]


WITH_OPTIONS = [
    recipe for recipe, schema in RECIPE_CONFIGS.items() if issubclass(schema, ModelRecipeConfig)
]
# A plan ignores data with a missing value; a test below compares its groups to the others.
WITHOUT_PLAN = [recipe for recipe in WITH_OPTIONS if recipe != "plan"]
IN_TURN = list(zip(OPTIONS, cycle(WITHOUT_PLAN), strict=False))
"""Every option with one of the recipes in turn."""


def composed(recipe: str, overrides: list[str]) -> RecipeConfig:
    """Compose a run; set each value that an error message requires."""
    try:
        return compose(RECIPE_CONFIGS[recipe], overrides)
    except ConfigError as error:
        if missing := re.match(r"([\w.]+) is missing(?:: write|\. Set) ", str(error)):
            return composed(recipe, [*overrides, f"{missing[1]}=somewhere"])
        raise


def choice(file: Path) -> str:
    return f"{file.relative_to(CONF).parts[0]}={option(file)}"


def option(file: Path) -> str:
    return Path(*file.relative_to(CONF).parts[1:]).with_suffix("").as_posix()


def overrides_for(file: Path) -> list[str]:
    """Return the overrides that choose an option, with the other choices that it needs."""
    if file.is_relative_to(CONF / "experiment"):
        return [choice(file)]
    if choice(file) == "data=mixture":
        return ["experiment=quickstart", choice(file)]
    if choice(file).startswith("search_space="):
        return [*OTHER_CHOICES, "search=optuna", choice(file)]
    if choice(file) == "data=benchmark":
        return [choice(file), "data.layout=docvqa", *OTHER_CHOICES[1:]]
    return [
        *(text for text in OTHER_CHOICES if not choice(file).startswith(text[:5])),
        choice(file),
    ]


@pytest.mark.parametrize(
    ("file", "recipe"), IN_TURN, ids=[f"{f.relative_to(CONF)}-{recipe}" for f, recipe in IN_TURN]
)
def test_every_option_composes(file: Path, recipe: str) -> None:
    run = composed(recipe, overrides_for(file))
    assert type(run) is RECIPE_CONFIGS[recipe]
    group = file.relative_to(CONF).parts[0]
    if group in GROUPS:
        assert type(getattr(run, group)) is GROUPS[group][option(file)]


@pytest.mark.parametrize("recipe", RECIPE_CONFIGS)
def test_every_recipe_has_a_root_and_every_root_a_recipe(recipe: str) -> None:
    assert {file.stem for file in CONF.glob("*.yaml")} == {*RECIPE_CONFIGS, "_defaults"}
    assert (CONF.parent / "recipes" / f"{recipe}.py").is_file()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(CONF).as_posix())
def test_every_file_starts_with_a_sentence(file: Path) -> None:
    line = catalog.summary_line(file)
    assert 20 < len(line) < 100
    assert line.endswith((".", "?"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(CONF).as_posix())
def test_no_file_names_code(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert "_target_" not in text
    assert "palitune." not in text


@pytest.mark.parametrize(
    ("group", "names"),
    {
        "task": TASKS,
        "data": SOURCES,
        "model": MODELS,
        "adapter": ADAPTERS,
        "augmentation": AUGMENTATIONS,
        "tracking": TRACKER_CONFIGS,
        "launch": STRATEGIES,
    }.items(),
)
def test_the_options_of_a_group_are_the_names_of_its_types(
    group: str, names: dict[str, type]
) -> None:
    assert set(catalog.options(group)) == set(names) == set(GROUPS[group])
    assert {name: schema.name for name, schema in names.items()} == {name: name for name in names}


def test_every_group_of_a_run_has_a_folder_and_every_folder_is_a_group() -> None:
    roots = [default_options(RECIPE_CONFIGS[recipe]) for recipe in WITH_OPTIONS]
    assert all(set(groups) == set(catalog.groups()) for groups in roots)
    assert set(catalog.groups()) == {*GROUPS, "experiment", "debug", "search_space"}


def test_all_recipes_have_the_same_default_options() -> None:
    defaults = {recipe: default_options(RECIPE_CONFIGS[recipe]) for recipe in WITH_OPTIONS}
    # These need no data, but accept the configuration of a training run.
    for recipe in ("predict", "plan", "export", "serve"):
        assert defaults.pop(recipe) == defaults["finetune"] | {"data": ""}
    assert all(other == defaults["finetune"] for other in defaults.values())
