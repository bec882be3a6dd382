"""The JSON schema accepts every composed configuration and refuses what the program refuses."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from omegaconf import OmegaConf

from palitune import __main__ as program
from palitune.config.catalog import options
from palitune.config.compose import compose
from palitune.config.recipes import RECIPE_CONFIGS
from palitune.config.schema import recipe_schema
from palitune.config.to_yaml import to_yaml

EXPERIMENTS = [
    "quickstart", "docvqa", "coco_detection", "handwriting_segmentation", "domain_adaptation",
]  # fmt: skip


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    schema = recipe_schema("finetune")
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def composed(experiment: str) -> dict[str, Any]:
    run = compose(RECIPE_CONFIGS["finetune"], [f"experiment={experiment}"])
    content: dict[str, Any] = yaml.safe_load(to_yaml(run))
    return content


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_a_composed_configuration_is_valid(
    experiment: str, validator: Draft202012Validator
) -> None:
    content = composed(experiment)
    assert content["training"]
    assert [error.message for error in validator.iter_errors(content)] == []


def test_files_of_experiments_are_valid(validator: Draft202012Validator) -> None:
    for name, file in options("experiment").items():
        content = json.loads(json.dumps(OmegaConf.to_container(OmegaConf.load(file))))
        search = content.pop("hydra", None), content.pop("search_space", None)
        assert [e.message for e in validator.iter_errors(content)] == [], (name, search)


@pytest.mark.parametrize(
    ("group", "key", "value"),
    [
        ("training", "learning_rat", 1e-4),
        ("training", "global_batch_size", 0),
        ("training", "epochs", "three"),
        ("training", "schedule", "linar"),
        ("adapter", "rank", 2.5),
        ("adapter", "targets", "language"),
    ],
)
def test_a_mistake_is_refused(
    group: str, key: str, value: Any, validator: Draft202012Validator
) -> None:
    content = composed("docvqa")
    assert validator.is_valid(content)
    content[group][key] = value
    assert not validator.is_valid(content)


@pytest.mark.parametrize("recipe", RECIPE_CONFIGS)
def test_every_recipe_has_a_schema_with_all_its_settings(
    recipe: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.run(["schema", recipe]) == 0
    schema = json.loads(capsys.readouterr().out)
    names = {field.name for field in dataclasses.fields(RECIPE_CONFIGS[recipe])}
    assert set(schema["properties"]) == names | {"defaults"}


def test_a_recipe_must_be_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert program.run(["schema"]) == 2
    assert program.run(["schema", "finetun"]) == 2
    said = capsys.readouterr().err
    assert "palitune schema needs a recipe" in said
    assert "did you mean 'finetune'" in said
