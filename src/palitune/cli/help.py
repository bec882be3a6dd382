"""What the command line tells about itself, read from the files: recipes, options, settings.

Nothing here composes a configuration or imports a recipe, so every answer comes at once.
"""

import argparse
import ast
import dataclasses
import inspect
import shutil
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, get_type_hints

from palitune.errors import ConfigError, did_you_mean, unknown_choice
from palitune.paths import resource_dir

if TYPE_CHECKING:
    from palitune.config.recipes import RecipeConfig

FLAGS = {
    "--cfg job": "print the composed configuration and run nothing",
    "--config-dir DIR": "add your own options: DIR/experiment/mine.yaml is experiment=mine",
    "--run FOLDER": "start from the configuration of an earlier run",
    "--multirun, -m": "run every combination of comma-separated values: adapter.rank=8,16",
    "--help, -h": "show this",
}


@dataclass(frozen=True, kw_only=True)
class CliArguments:
    """A recipe's command line, taken apart."""

    overrides: list[str]
    config_dir: str | None
    run_folder: str | None
    multirun: bool
    show_config: bool
    help: bool

    @property
    def config_flags(self) -> list[str]:
        """The flags that say where configuration comes from."""
        config_dir = ["--config-dir", self.config_dir] if self.config_dir else []
        return config_dir + (["--run", self.run_folder] if self.run_folder else [])


@dataclass(frozen=True)
class FieldDoc:
    """One field of a configuration dataclass, as its source tells it."""

    name: str
    type: str
    default: str
    """As written in Python; empty where the field must be given."""
    description: str
    """The sentence under the field."""


def recipes() -> dict[str, str]:
    """Return the first docstring line of every recipe, by name."""
    return {file.stem: summary_line(file) for file in sorted(resource_dir("recipes").glob("*.py"))}


def groups(config_dir: str | None = None) -> list[str]:
    """Return the configuration groups: the folders under `conf/` and the user's own."""
    found = (child for place in config_dirs(config_dir) for child in place.iterdir())
    return sorted({child.name for child in found if child.is_dir()})


def options(group: str, config_dir: str | None = None) -> dict[str, Path]:
    """Return the file of every option of a group, by the name that selects it."""
    folders = [place / group for place in config_dirs(config_dir)]
    files = sorted((file, folder) for folder in folders for file in folder.rglob("*.yaml"))
    return {file.relative_to(folder).with_suffix("").as_posix(): file for file, folder in files}


def config_dirs(config_dir: str | None) -> list[Path]:
    """Return the folders that hold configuration: the bundled one and the user's."""
    if config_dir is None:
        return [resource_dir("conf")]
    if not Path(config_dir).is_dir():
        raise ConfigError(f"--config-dir {config_dir}: there is no such folder")
    return [resource_dir("conf"), Path(config_dir)]


def summary_line(file: Path) -> str:
    """Return what a file says of itself: its docstring's or its header comment's first line."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".py":
        return (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]
    comments = [line[1:].strip() for line in text.splitlines() if line.startswith("#")]
    return next((line for line in comments if line and not line.startswith("@package")), "")


def field_docs(schema: type) -> list[FieldDoc]:
    """Return every field of a configuration dataclass with the sentence under it."""
    written: dict[str, FieldDoc] = {}
    for base in reversed(schema.__mro__):
        if dataclasses.is_dataclass(base):
            for setting in _parse_field_docs(base):
                known = written.get(setting.name)
                text = setting.description or (known.description if known else "")
                written[setting.name] = dataclasses.replace(setting, description=text)
    return [written[field.name] for field in dataclasses.fields(schema) if field.name in written]


def _parse_field_docs(schema: type) -> Iterable[FieldDoc]:
    body = ast.parse(textwrap.dedent(inspect.getsource(schema))).body[0]
    assert isinstance(body, ast.ClassDef)
    hints = get_type_hints(schema)
    for statement, after in zip(body.body, [*body.body[1:], None], strict=True):
        if not (isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)):
            continue
        text = ""
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            text = " ".join(str(after.value.value).split())
        yield FieldDoc(
            name=statement.target.id,
            type=_format_type(hints[statement.target.id], statement.annotation),
            default=_format_default(statement.value),
            description=text,
        )


def _format_type(hint: object, annotation: ast.expr) -> str:
    """Return the members of an enum, or the source of any other type without its range."""
    if isinstance(hint, type) and issubclass(hint, Enum):
        return " | ".join(hint.__members__)
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "Annotated":
        assert isinstance(annotation.slice, ast.Tuple)
        annotation = annotation.slice.elts[0]
    return ast.unparse(annotation).replace("None", "null")


def _format_default(value: ast.expr | None) -> str:
    """Write a default as an override does: `field(default_factory=lambda: X)` is X."""
    if isinstance(value, ast.Call):
        value = next((k.value for k in value.keywords if k.arg == "default_factory"), value)
        if isinstance(value, ast.Name):
            return {"list": "[]", "dict": "{}"}.get(value.id, value.id)
        value = value.body if isinstance(value, ast.Lambda) else value
    if isinstance(value, ast.Attribute):
        return value.attr
    text = ast.unparse(value) if value else ""
    return {"None": "null", "True": "true", "False": "false"}.get(text, text)


class _ArgumentParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(message)


def parse_arguments(argv: list[str]) -> CliArguments:
    """Take a recipe's command line apart. Raises ConfigError on a flag that does not exist."""
    parser = _ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--cfg", choices=["job"])
    parser.add_argument("--config-dir")
    parser.add_argument("--run")
    parser.add_argument("--multirun", "-m", action="store_true")
    parser.add_argument("--help", "-h", action="store_true")
    known, overrides = parser.parse_known_args(argv)
    for flag in (text for text in overrides if text.startswith("-")):
        valid = [name for names in FLAGS for name in names.split(" ")[0].rstrip(",").split()]
        raise ConfigError(
            f"there is no flag {flag}{did_you_mean(flag.partition('=')[0], valid)}; "
            f"valid are {', '.join(FLAGS)}"
        )
    return CliArguments(
        overrides=overrides,
        config_dir=known.config_dir,
        run_folder=known.run,
        multirun=known.multirun,
        show_config=known.cfg is not None,
        help=known.help,
    )


def overview() -> str:
    """Write what `palitune` can do, one line each."""
    return f"""\
palitune: fine-tune PaliGemma, and see what it learned

palitune RECIPE key=value ...
{format_table(recipes())}

palitune RECIPE --help             what a recipe can be told
palitune list [GROUP [OPTION]]     the groups, a group's options, an option's settings
palitune copy RECIPE FILE          take a recipe home and edit it"""


def recipe_help(
    prog: str,
    recipe_name: str,
    defaults: Mapping[str, str],
    schema: "type[RecipeConfig]",
    config_dir: str | None = None,
) -> str:
    """Write what a recipe can be told; `defaults` maps its groups to their default options."""
    chosen = {
        group: _format_options(options(group, config_dir), default)
        for group, default in defaults.items()
    }
    plain = {
        f"{setting.name}={setting.default or '...'}": setting.description
        for setting in field_docs(schema)
        if setting.name not in defaults
    }
    choose = f"""Choose options (group=option); [this] is the default:
{format_table(chosen)}

"""
    explained = """
  GROUP.KEY=VALUE: what there is, `palitune list GROUP OPTION` explains, e.g. training default"""
    words = f"{schema.positional_field.upper()} ... " if schema.positional_field else ""
    return f"""\
{prog} {words}key=value ...

{recipes().get(recipe_name, "")}

{choose if chosen else ""}Set values (key=value):
{format_table(plain)}{explained if chosen else ""}

Flags:
{format_table(FLAGS)}"""


def _format_options(option_names: Iterable[str], default: str) -> str:
    names = " ".join(f"[{name}]" if name == default else name for name in option_names)
    return f"{names}   (must be chosen)" if default == "???" else names


def format_table(rows: Mapping[str, str]) -> str:
    """Write names and their texts in two columns."""
    width = max(map(len, rows), default=0) + 3
    return "\n".join(f"  {name:{width}}{text}".rstrip() for name, text in rows.items())


def list_command(argv: list[str], schemas: Mapping[str, Mapping[str, type]]) -> str:
    """Write the groups, the options of a group, or the settings of an option."""
    request = parse_arguments(argv)
    if not request.overrides:
        return "\n".join(groups(request.config_dir))
    group, *rest = request.overrides
    if group not in groups(request.config_dir):
        raise ConfigError(unknown_choice("group", group, groups(request.config_dir)))
    files = options(group, request.config_dir)
    if not rest:
        return format_table({name: summary_line(file) for name, file in files.items()})
    if rest[0] not in files:
        raise ConfigError(unknown_choice(f"option of {group}", rest[0], files))
    schema = schemas.get(group, {}).get(rest[0])
    if schema is None:
        return files[rest[0]].read_text(encoding="utf-8").rstrip()
    return "\n".join(_format_field_doc(group, setting) for setting in field_docs(schema))


def _format_field_doc(group: str, field_doc: FieldDoc) -> str:
    default = f" = {field_doc.default}" if field_doc.default else ""
    text = f"\n    {field_doc.description}" if field_doc.description else ""
    return f"{group}.{field_doc.name}: {field_doc.type}{default}{text}"


def copy_command(argv: list[str]) -> str:
    """Copy a recipe into a file of one's own. Raises ConfigError where it would overwrite."""
    if len(argv) != 2:
        raise ConfigError("palitune copy takes a recipe and a file: palitune copy finetune my.py")
    name, file = argv[0], Path(argv[1])
    if name not in recipes():
        raise ConfigError(unknown_choice("recipe", name, recipes()))
    if file.suffix != ".py":
        raise ConfigError(f"{file} must end in .py; it will be a program")
    if file.exists():
        raise ConfigError(f"{file} exists already; nothing was copied, give another name")
    if not file.absolute().parent.is_dir():
        raise ConfigError(f"{file.parent} is not a folder; create it first")
    shutil.copyfile(resource_dir("recipes") / f"{name}.py", file)
    return f"copied; run it as palitune {name} is run: python {file} key=value ..."
