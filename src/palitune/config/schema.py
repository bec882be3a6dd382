"""JSON schema of a recipe's configuration, for editors and other programs (draft 2020-12).

It is made from the configuration dataclasses: types, ranges and the docstrings of the fields.
"""

import dataclasses
import types
from collections.abc import Mapping
from enum import Enum
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from palitune.config.catalog import field_docs
from palitune.config.recipes import GROUPS, RECIPE_CONFIGS

Schema = dict[str, Any]

_INTERPOLATION: Schema = {"$ref": "#/$defs/interpolation"}
_PLAIN_TYPES: Mapping[Any, str] = {
    int: "integer", float: "number", str: "string", bool: "boolean", type(None): "null",
}  # fmt: skip
_BOUNDS = {
    "ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum",
}  # fmt: skip


def recipe_schema(recipe: str) -> Schema:
    """Return the schema of `config.yaml` and of the files of `conf/experiment` for a recipe."""
    return _SchemaWriter().write(recipe)


class _SchemaWriter:
    """Writes each dataclass once, into `$defs`."""

    def __init__(self) -> None:
        self.definitions: dict[str, Schema] = {
            "interpolation": {
                "type": "string",
                "pattern": r"^(\?\?\?|.*\$\{.*)$",
                "description": "A value that is missing or taken from another key.",
            }
        }

    def write(self, recipe: str) -> Schema:
        schema = self._object(RECIPE_CONFIGS[recipe])
        for group, options in GROUPS.items():
            if group in schema["properties"]:
                choices = map(self._reference, dict.fromkeys(options.values()))
                schema["properties"][group] = {
                    "anyOf": [*choices, {"type": "null"}],
                    "description": f"Choose with {group}: {', '.join(options)}.",
                }
        schema["properties"]["defaults"] = {
            "type": "array",
            "description": "Options that this file starts from.",
        }
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": f"palitune {recipe}",
            **schema,
            "$defs": self.definitions,
        }

    def _reference(self, schema: type) -> Schema:
        name = f"{schema.__module__.removeprefix('palitune.')}.{schema.__qualname__}"
        if name not in self.definitions:
            self.definitions[name] = {}  # a class may contain itself
            self.definitions[name] = self._object(schema)
        return {"$ref": f"#/$defs/{name}"}

    def _object(self, schema: type) -> Schema:
        """Return the schema of a dataclass; every key may be left out."""
        hints = get_type_hints(schema, include_extras=True)
        described = {doc.name: doc.description for doc in field_docs(schema)}
        properties = {}
        for field in dataclasses.fields(schema):
            value = self._value(hints[field.name])
            if described.get(field.name):
                value = {**value, "description": described[field.name]}
            properties[field.name] = value
        return {"type": "object", "properties": properties, "additionalProperties": False}

    def _value(self, hint: Any) -> Schema:
        """Return the schema of a type; a value other than a string may be an interpolation."""
        origin, arguments = get_origin(hint), get_args(hint)
        if origin is Annotated:
            return {**self._value(arguments[0]), **_bounds(arguments[1:])}
        if origin in (Union, types.UnionType):
            return {"anyOf": [self._value(each) for each in arguments]}
        if hint in (str, type(None)):
            return {"type": _PLAIN_TYPES[hint]}
        return {"anyOf": [*self._plain(hint, origin, arguments), _INTERPOLATION]}

    def _plain(self, hint: Any, origin: Any, arguments: tuple[Any, ...]) -> list[Schema]:
        if origin is Literal:
            return [{"enum": list(arguments)}]
        if origin is list:
            return [{"type": "array", "items": self._value(arguments[0])}]
        if origin is dict:
            return [{"type": "object", "additionalProperties": self._value(arguments[1])}]
        if hint in _PLAIN_TYPES:
            return [{"type": _PLAIN_TYPES[hint]}]
        if isinstance(hint, type) and issubclass(hint, Enum):
            return [{"enum": list(hint.__members__)}]
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            return list(map(self._reference, _options_of(hint)))
        return [{}]  # Any: the program checks the value itself


def _options_of(schema: type) -> list[type]:
    """Return the options that a field of a base class accepts, or the class itself."""
    options = dict.fromkeys(each for group in GROUPS.values() for each in group.values())
    return [each for each in options if issubclass(each, schema)] or [schema]


def _bounds(metadata: tuple[Any, ...]) -> Schema:
    """Return the range of a number."""
    return {
        keyword: getattr(each, name)
        for each in metadata
        for name, keyword in _BOUNDS.items()
        if getattr(each, name, None) is not None
    }
