"""Catalog of recipes, option groups, options and settings, read from their files.

No configuration is composed and no recipe is imported, so that help and error messages are fast.
"""

import ast
import dataclasses
import inspect
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, get_type_hints

from palitune.errors import ConfigError, describe_range, did_you_mean
from palitune.paths import resource_dir


@dataclass(frozen=True)
class FieldDoc:
    """One field of a configuration dataclass, as written in its source."""

    name: str
    type: str
    default: str
    """As written in Python; empty for a required field."""
    description: str
    """The docstring under the field."""
    range: str = ""
    """Valid range in words, e.g. "at least 1"."""


def config_dirs(config_dir: str | None) -> list[Path]:
    """Return the configuration folders: the bundled one and the user's."""
    if config_dir is None:
        return [resource_dir("conf")]
    if not Path(config_dir).is_dir():
        raise ConfigError(f"--config-dir {config_dir}: this folder does not exist")
    return [resource_dir("conf"), Path(config_dir)]


def recipes() -> dict[str, str]:
    """Return the summary line of each recipe by name."""
    return {file.stem: summary_line(file) for file in sorted(resource_dir("recipes").glob("*.py"))}


def groups(config_dir: str | None = None) -> list[str]:
    """Return the option groups: the folders under `conf/` and under the user's folder."""
    children = (child for folder in config_dirs(config_dir) for child in folder.iterdir())
    return sorted({child.name for child in children if child.is_dir()})


def options(group: str, config_dir: str | None = None) -> dict[str, Path]:
    """Return the file of each option of a group by name; `FOLDER/NAME` for one in a folder."""
    folders = [folder / group for folder in config_dirs(config_dir)]
    files = sorted((file, folder) for folder in folders for file in folder.rglob("*.yaml"))
    return {file.relative_to(folder).with_suffix("").as_posix(): file for file, folder in files}


def resolve_option(group: str, name: str, config_dir: str | None = None) -> str:
    """Return the full name of an option: `docvqa` is `documents/docvqa` if no other folder has it.

    Raises:
        ConfigError: No option has this name, or several folders have one.
    """
    files = options(group, config_dir)
    if name in files:
        return name
    matches = [option for option in files if option.rpartition("/")[2] == name]
    if len(matches) > 1:
        raise ConfigError(f"{group}={name} is ambiguous: choose one of {', '.join(matches)}")
    if not matches:
        short_names = [option.rpartition("/")[2] for option in files]
        suggestion = did_you_mean(name.rpartition("/")[2], short_names)
        raise ConfigError(f"there is no {group} '{name}'{suggestion}; valid are {', '.join(files)}")
    return matches[0]


def summary_line(file: Path) -> str:
    """Return the first line of a file's docstring (Python) or header comment (YAML)."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".py":
        return (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]
    comments = [line[1:].strip() for line in text.splitlines() if line.startswith("#")]
    return next((line for line in comments if line and not line.startswith("@package")), "")


def field_docs(schema: type) -> list[FieldDoc]:
    """Return all fields of a configuration dataclass with the docstrings under them."""
    docs: dict[str, FieldDoc] = {}
    for base in reversed(schema.__mro__):
        if dataclasses.is_dataclass(base):
            for doc in _parse_field_docs(base):
                inherited = docs[doc.name].description if doc.name in docs else ""
                description = doc.description or inherited
                docs[doc.name] = dataclasses.replace(doc, description=description)
    return [docs[field.name] for field in dataclasses.fields(schema) if field.name in docs]


def _parse_field_docs(schema: type) -> Iterable[FieldDoc]:
    class_def = ast.parse(textwrap.dedent(inspect.getsource(schema))).body[0]
    assert isinstance(class_def, ast.ClassDef)
    hints = get_type_hints(schema, include_extras=True)
    following = [*class_def.body[1:], None]
    for statement, successor in zip(class_def.body, following, strict=True):
        if not (isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)):
            continue
        description = ""
        if isinstance(successor, ast.Expr) and isinstance(successor.value, ast.Constant):
            description = " ".join(str(successor.value.value).split())
        hint = hints[statement.target.id]
        yield FieldDoc(
            name=statement.target.id,
            type=_format_type(hint, statement.annotation),
            default=_format_default(statement.value),
            description=description,
            range=describe_range(getattr(hint, "__metadata__", ())),
        )


def _format_type(hint: Any, annotation: ast.expr) -> str:
    """Return the members of an enum, or the source of any other type without its range."""
    if isinstance(hint, type) and issubclass(hint, Enum):
        return " | ".join(hint.__members__)
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "Annotated":
        assert isinstance(annotation.slice, ast.Tuple)
        annotation = annotation.slice.elts[0]
    return ast.unparse(annotation).replace("None", "null")


def _format_default(value: ast.expr | None) -> str:
    """Write a default as an override; `field(default_factory=lambda: X)` becomes X."""
    if isinstance(value, ast.Call):
        value = next((k.value for k in value.keywords if k.arg == "default_factory"), value)
        if isinstance(value, ast.Name):
            return {"list": "[]", "dict": "{}"}.get(value.id, value.id)
        value = value.body if isinstance(value, ast.Lambda) else value
    if isinstance(value, ast.Attribute):
        return value.attr
    text = ast.unparse(value) if value else ""
    return {"None": "null", "True": "true", "False": "false"}.get(text, text)
