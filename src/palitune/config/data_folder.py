"""A folder of data as positional argument: `palitune finetune FOLDER`."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from palitune.config.overrides import parse_override, quote_value
from palitune.config.recipes import DataRecipeConfig, RecipeConfig
from palitune.data.recognition.resolve import RecognizedFolder, recognize_folder
from palitune.errors import ConfigError

_PLAIN = re.compile(r"[\w./-]+")
"""Values that need no quotes on the command line."""


def split_folder(
    schema: type[RecipeConfig], arguments: Sequence[str]
) -> tuple[str | None, list[str]]:
    """Return the folder among the arguments, and the other arguments.

    A folder is an argument without `=` that exists or has a slash.

    Raises:
        ConfigError: There are several folders.
    """
    if not issubclass(schema, DataRecipeConfig):
        return None, list(arguments)
    folders = [text for text in arguments if _is_folder(text)]
    if len(folders) > 1:
        raise ConfigError(
            f"{schema.name} takes one folder of data, got {', '.join(folders)}. To train on each "
            "of them, write --multirun 'data.path=glob(PATTERN)'; on all together, data=mixture."
        )
    return next(iter(folders), None), [text for text in arguments if text not in folders]


def folder_settings(
    folder: str, overrides: Sequence[str], *, has_other_config: bool
) -> tuple[list[str], RecognizedFolder | None]:
    """Return the overrides that read a folder, and what was recognized.

    Args:
        folder: The folder, or an annotation file.
        overrides: The other overrides of the command line, which have priority.
        has_other_config: An experiment or an earlier run names data and task.

    Raises:
        DataError: The folder fits no format, or several.
        ConfigError: The folder is given twice.
    """
    values = dict(text.split("=", 1) for text in overrides if "=" in text)
    if "data.path" in values:
        raise ConfigError(
            f"the data is given twice, as {folder} and as data.path={values['data.path']}; remove "
            "one of them"
        )
    path = f"data.path={quote_value(folder)}"
    if has_other_config or values.keys() >= {"data", "task"}:
        return [path, *overrides], None
    recognized = recognize_folder(folder, values.get("data"), values.get("task"))
    pairs = (text.split("=", 1) for text in recognized.settings)
    settings = [f"{key}={_quoted(value)}" for key, value in pairs if key not in values]
    return [*settings, *overrides], recognized


def recognize_data_path(
    schema: type[RecipeConfig], overrides: Sequence[str], run_folder: str | None = None
) -> list[str]:
    """Return overrides with the settings that read `data.path`, if nothing else names the data.

    Raises:
        DataError: The folder fits no format, or several.
    """
    path = next((text for text in overrides if text.startswith("data.path=")), None)
    others = [text for text in overrides if text != path]
    names_data = any(text.startswith(("data=", "experiment=")) for text in others)
    if path is None or names_data or run_folder or not issubclass(schema, DataRecipeConfig):
        return list(overrides)
    folder = str(parse_override(path).value())
    return folder_settings(folder, others, has_other_config=False)[0]


def equivalent_command(recipe: str, settings: Sequence[str], flags: Sequence[str] = ()) -> str:
    """Return the command line with settings in place of a folder."""
    return shlex.join(["palitune", recipe, *flags, *settings])


def _quoted(value: str) -> str:
    return value if _PLAIN.fullmatch(value) else quote_value(value)


def _is_folder(text: str) -> bool:
    if text.startswith("-") or re.match(r"[\w.@+~/]+=", text):
        return False
    return Path(text).expanduser().exists() or "/" in text
