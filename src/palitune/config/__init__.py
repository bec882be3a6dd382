"""The Hydra boundary: YAML and overrides come in, one typed dataclass goes out.

A choice is a type: `adapter=qlora` composes a node of type `Qlora`, so what a recipe receives can
be used as it is. No dotted Python path is ever read from a configuration.
"""

from palitune.config.composing import compose
from palitune.config.overrides import combinations, domains, quoted, with_words
from palitune.config.programs import recipe
from palitune.config.saving import to_yaml
from palitune.config.schemas import default_options
from palitune.mistakes import ConfigError
from palitune.runs import (
    Align,
    Check,
    Compare,
    Evaluate,
    Export,
    Finetune,
    Inspect,
    Plan,
    Predict,
    Run,
)

__all__ = [
    "Align",
    "Check",
    "Compare",
    "ConfigError",
    "Evaluate",
    "Export",
    "Finetune",
    "Inspect",
    "Plan",
    "Predict",
    "Run",
    "combinations",
    "compose",
    "default_options",
    "domains",
    "quoted",
    "recipe",
    "to_yaml",
    "with_words",
]
