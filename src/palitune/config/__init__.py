"""The Hydra boundary: YAML and overrides come in, one typed dataclass goes out.

A choice is a type: `adapter=qlora` composes a node of type `Qlora`, so what a recipe receives can
be used as it is. No dotted Python path is ever read from a configuration.
"""

from palitune.cli.recipe import recipe
from palitune.config.compose import compose
from palitune.config.config_store import default_options
from palitune.config.overrides import (
    expand_positional,
    expand_sweep,
    parse_search_space,
    quote_value,
)
from palitune.config.recipes import (
    Align,
    Check,
    Compare,
    Evaluate,
    Export,
    Finetune,
    Inspect,
    ModelRecipeConfig,
    Plan,
    Predict,
)
from palitune.config.to_yaml import to_yaml
from palitune.errors import ConfigError

__all__ = [
    "Align",
    "Check",
    "Compare",
    "ConfigError",
    "Evaluate",
    "Export",
    "Finetune",
    "Inspect",
    "ModelRecipeConfig",
    "Plan",
    "Predict",
    "compose",
    "default_options",
    "expand_positional",
    "expand_sweep",
    "parse_search_space",
    "quote_value",
    "recipe",
    "to_yaml",
]
