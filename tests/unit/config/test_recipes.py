"""Configuration dataclasses of the recipes."""

import pytest

from palitune.config.catalog import recipes
from palitune.config.recipes import RECIPE_CONFIGS

from support.config_errors import BOATS, config_error_message


def test_every_recipe_has_a_schema_of_its_name() -> None:
    assert set(RECIPE_CONFIGS) == set(recipes())
    assert all(name == schema.name for name, schema in RECIPE_CONFIGS.items())


@pytest.mark.parametrize(
    ("recipe", "override", "message"),
    [
        ("inspect", "samples=-1", "samples must be at least 0, got -1."),
        ("inspect", "codec_samples=-1", "codec_samples must be at least 0, got -1."),
        ("plan", "prefix_tokens=0", "prefix_tokens must be at least 1, got 0."),
        ("plan", "suffix_tokens=0", "suffix_tokens must be at least 1, got 0."),
        ("plan", "examples=0", "examples must be at least 1, got 0."),
        ("plan", "gpu_memory=0", "gpu_memory must be above 0, got 0.0."),
        ("plan", "device_tflops=-1", "device_tflops must be above 0, got -1.0."),
        ("plan", "device_bandwidth=0", "device_bandwidth must be above 0, got 0.0."),
        ("plan", "mfu=1.5", "mfu must be above 0 and at most 1, got 1.5."),
        ("align", "num_generations=1", "num_generations must be at least 2"),
        ("export", "samples=0", "samples must be at least 1"),
    ],
)
def test_a_value_outside_its_range_is_an_error(recipe: str, override: str, message: str) -> None:
    assert config_error_message(*BOATS, override, recipe=recipe).startswith(message)


def test_ranges_are_checked_in_predict_and_compare() -> None:
    message = config_error_message("images=x", "prompt=y", "max_shown=-1", recipe="predict")
    assert message == "max_shown must be at least 0, got -1."
    message = config_error_message("runs=[a]", "bootstrap_samples=-1", recipe="compare")
    assert message == "bootstrap_samples must be at least 0, got -1."
