"""Help texts of the program and the commands `palitune list`, `copy` and `schema`."""

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from palitune.cli.arguments import FLAGS, parse_arguments
from palitune.config.catalog import (
    FieldDoc,
    field_docs,
    groups,
    options,
    recipes,
    resolve_option,
    summary_line,
)
from palitune.errors import ConfigError, unknown_choice
from palitune.paths import resource_dir

_EMBEDDED_DATA = ("handwriting", "print")


def overview() -> str:
    """Return the help of the program: all recipes and commands, one line each."""
    return f"""\
palitune: fine-tune PaliGemma with LoRA and see what it learned

palitune RECIPE key=value ...
{format_table(recipes())}

palitune RECIPE --help             options and settings of a recipe
palitune list [GROUP [OPTION]]     option groups, options of a group, settings of an option
palitune copy RECIPE FILE          copy a recipe to a file of your own and edit it
palitune copy handwriting FOLDER   copy the embedded data set as a folder of files
palitune schema RECIPE             JSON schema of its configuration, for editors
palitune completion SHELL          completion for bash, zsh or fish"""


def recipe_help(
    prog: str,
    recipe: str,
    schema: type,
    default_options: Mapping[str, str],
    positional_field: str | None = None,
    config_dir: str | None = None,
    *,
    takes_folder: bool = False,
) -> str:
    """Return the help of a recipe.

    Args:
        prog: Program name for the usage line, e.g. "palitune finetune".
        recipe: Name of the recipe.
        schema: Configuration dataclass of the recipe.
        default_options: Default option of each group; `???` is required.
        positional_field: Setting that takes the positional arguments, if any.
        config_dir: The user's configuration folder.
        takes_folder: Whether a folder of data may be given.
    """
    option_lines = {
        group: _format_options(options(group, config_dir), default)
        for group, default in default_options.items()
    }
    setting_lines = {
        f"{doc.name}={doc.default or '...'}": _format_description(doc)
        for doc in field_docs(schema)
        if doc.name not in default_options
    }
    group_text = f"""Choose options (group=option); [x] is the default:
{format_table(option_lines)}

"""
    nested_settings = """
  GROUP.KEY=VALUE: see `palitune list GROUP OPTION`, e.g. `palitune list training default`"""
    positional = f"{positional_field.upper()} ... " if positional_field else ""
    if takes_folder:
        positional = "[FOLDER] "
    return f"""\
{prog} {positional}key=value ...

{recipes().get(recipe, "")}

{group_text if option_lines else ""}Set values (key=value):
{format_table(setting_lines)}{nested_settings if option_lines else ""}

Flags:
{format_table(FLAGS)}"""


def _format_options(names: Iterable[str], default: str) -> str:
    text = " ".join(f"[{name}]" if name == default else name for name in names)
    return f"{text}   (required)" if default == "???" else text


def format_table(rows: Mapping[str, str]) -> str:
    """Format names and their texts in two columns."""
    width = max(map(len, rows), default=0) + 3
    return "\n".join(f"  {name:{width}}{text}".rstrip() for name, text in rows.items())


def list_command(argv: list[str], schemas: Mapping[str, Mapping[str, type]]) -> str:
    """Return the groups, the options of a group, or the settings of an option."""
    arguments = parse_arguments(argv)
    if not arguments.overrides:
        return "\n".join(groups(arguments.config_dir))
    group, *option_name = arguments.overrides
    if group not in groups(arguments.config_dir):
        raise ConfigError(unknown_choice("group", group, groups(arguments.config_dir)))
    files = options(group, arguments.config_dir)
    if not option_name:
        return format_table({name: summary_line(file) for name, file in files.items()})
    option = resolve_option(group, option_name[0], arguments.config_dir)
    schema = schemas.get(group, {}).get(option)
    if schema is None:
        return files[option].read_text(encoding="utf-8").rstrip()
    return "\n".join(_format_field_doc(group, doc) for doc in field_docs(schema))


def _format_field_doc(group: str, doc: FieldDoc) -> str:
    default = f" = {doc.default}" if doc.default else ""
    description = _format_description(doc)
    return f"{group}.{doc.name}: {doc.type}{default}" + (description and f"\n    {description}")


def _format_description(doc: FieldDoc) -> str:
    return f"{doc.description} ({doc.range})".lstrip() if doc.range else doc.description


def schema_command(argv: list[str]) -> str:
    """Return the JSON schema of a recipe's configuration."""
    from palitune.config.schema import recipe_schema

    if len(argv) != 1:
        raise ConfigError("palitune schema needs a recipe, e.g. palitune schema finetune")
    if argv[0] not in recipes():
        raise ConfigError(unknown_choice("recipe", argv[0], recipes()))
    return json.dumps(recipe_schema(argv[0]), indent=2)


def copy_command(argv: list[str]) -> str:
    """Copy a recipe to a new file. Raises ConfigError if the file exists."""
    if len(argv) != 2:
        raise ConfigError(
            "palitune copy needs a recipe and a file, e.g. palitune copy finetune my.py"
        )
    recipe, file = argv[0], Path(argv[1])
    if recipe in _EMBEDDED_DATA:
        return _copy_data(recipe, file)
    if recipe not in recipes():
        raise ConfigError(unknown_choice("recipe", recipe, recipes()))
    if file.suffix != ".py":
        raise ConfigError(f"{file} must end in .py")
    if file.exists():
        raise ConfigError(f"{file} already exists; choose another file name")
    if not file.absolute().parent.is_dir():
        raise ConfigError(f"{file.parent} is not a folder; create it first")
    shutil.copyfile(resource_dir("recipes") / f"{recipe}.py", file)
    return f"Copied. Run it like `palitune {recipe}`: python {file} key=value ..."


def _copy_data(name: str, folder: Path) -> str:
    """Copy an embedded data set to a new folder. Raises ConfigError if the folder exists."""
    from palitune.data.sources.embedded import copy_as_coco

    if folder.exists():
        raise ConfigError(f"{folder} already exists; choose another folder name")
    copy_as_coco(name, folder)
    return f"Copied. Look at it with: palitune inspect {folder} model=tiny"
