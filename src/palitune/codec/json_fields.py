"""Declared fields of JSON answers: kinds of values, their canonical form and their inference.

A declaration is a mapping such as `{total: number, date: date, items: [{name: text}]}`. The
canonical JSON of an object has the declared fields in the declared order, without spaces; an absent
field is left out. Values are normalized only as declared:

| kind | form in the target | compared |
|---|---|---|
| text | as it is, without spaces around it | as it is |
| lowercase | as it is | in lower case |
| number | JSON number: 1,234.50, 1.234,50 and "€ 1234.5" become 1234.5 | as a number |
| date | ISO 8601: 31.1.2024, 31/1/2024 and 31 Jan 2024 become 2024-01-31 | as a date |
| date_month_first | the same for 1/31/2024 | as a date |
| boolean | true or false | as it is |

In a number with one kind of separator, a comma before three digits separates thousands, any other
separator is decimal; several equal ones separate thousands.
"""

import datetime
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from palitune.codec.json_text import JsonNode, parse_json_object

KINDS = ("text", "lowercase", "number", "date", "date_month_first", "boolean")


@dataclass(frozen=True)
class ScalarField:
    """A single value of one of `KINDS`."""

    kind: str


@dataclass(frozen=True)
class ObjectField:
    """An object with declared fields, in order."""

    fields: "tuple[tuple[str, JsonField], ...]"


@dataclass(frozen=True)
class ListField:
    """A list of values or objects of one shape."""

    item: ScalarField | ObjectField


JsonField = ScalarField | ObjectField | ListField


@dataclass(frozen=True)
class JsonGrammar:
    """Answers that are canonical JSON of the declared fields."""

    fields: ObjectField


@dataclass
class FieldValues:
    """The declared fields of an object."""

    target: dict[str, Any] = field(default_factory=dict)
    """Values in the form of the target."""
    compared: dict[str, Any] = field(default_factory=dict)
    """Values in the form in which they are compared."""
    places: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Place [start, end) in the text of every value, by path: `items[0].price`."""
    repairs: list[str] = field(default_factory=list)
    """Departures from the declaration and from JSON, a phrase each."""
    unknown: list[str] = field(default_factory=list)
    """Paths of fields that are not declared."""


def parse_declaration(declared: Any, path: str = "task.fields") -> ObjectField:
    """Return the fields of a declaration. Raises ValueError if it is invalid."""
    parsed = _parse_field(declared, path)
    if not isinstance(parsed, ObjectField):
        raise ValueError(f"{path} must be a mapping of field names, got {declared!r}.")
    return parsed


def _parse_field(declared: Any, path: str) -> JsonField:
    if isinstance(declared, Mapping) and declared:
        return ObjectField(
            tuple(
                (str(name), _parse_field(each, f"{path}.{name}")) for name, each in declared.items()
            )
        )
    if isinstance(declared, list) and len(declared) == 1:
        item = _parse_field(declared[0], f"{path}[0]")
        if not isinstance(item, ListField):
            return ListField(item)
    elif declared in KINDS:
        return ScalarField(declared)
    raise ValueError(
        f"{path} must be {', '.join(KINDS)}, a mapping of fields, or a list with one of these, "
        f"got {declared!r}. Declare e.g. {{total: number, items: [{{name: text}}]}}."
    )


def to_declaration(declared: JsonField) -> Any:
    """Invert `parse_declaration`."""
    match declared:
        case ObjectField(fields):
            return {name: to_declaration(each) for name, each in fields}
        case ListField(item):
            return [to_declaration(item)]
        case ScalarField(kind):
            return kind


def leaf_paths(declared: JsonField, path: str = "") -> list[str]:
    """Return the paths of all values of a declaration, without positions in lists."""
    match declared:
        case ObjectField(fields):
            return [leaf for name, each in fields for leaf in leaf_paths(each, _join(path, name))]
        case ListField(item):
            return leaf_paths(item, path)
        case ScalarField():
            return [path]


def read_fields(text: str, declared: ObjectField) -> FieldValues | None:
    """Return the declared fields of a generated text; None if it contains no object."""
    node, repairs = parse_json_object(text)
    if node is None:
        return None
    values = FieldValues(repairs=repairs)
    values.target, values.compared = _read_object(node, declared, "", values)
    return values


def canonical_json(values: Mapping[str, Any]) -> str:
    """Return JSON without spaces, with characters outside ASCII as they are."""
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _read(node: JsonNode, declared: JsonField, path: str, values: FieldValues) -> tuple[Any, Any]:
    """Return a value in target and compared form; (None, None) if it is absent."""
    if node.value is None:
        return None, None
    match declared:
        case ObjectField():
            if not isinstance(node.value, dict):
                values.repairs.append(f"{path} must be an object, got {_short(node)}")
                return None, None
            return _read_object(node, declared, path, values)
        case ListField(item):
            # A list of one entry may be written as the entry, as in CORD.
            nodes = node.value if isinstance(node.value, list) else [node]
            pairs = [_read(n, item, f"{path}[{i}]", values) for i, n in enumerate(nodes)]
            pairs = [pair for pair in pairs if pair[0] not in (None, {})]
            if not pairs:
                return None, None
            return [target for target, _ in pairs], [compared for _, compared in pairs]
        case ScalarField(kind):
            return _read_scalar(node, kind, path, values)


def _read_object(
    node: JsonNode, declared: ObjectField, path: str, values: FieldValues
) -> tuple[dict[str, Any], dict[str, Any]]:
    target: dict[str, Any] = {}
    compared: dict[str, Any] = {}
    for name, each in declared.fields:
        if name in node.value:
            first, second = _read(node.value[name], each, _join(path, name), values)
            if first is not None:
                target[name], compared[name] = first, second
    names = {name for name, _ in declared.fields}
    values.unknown += [_join(path, name) for name in node.value if name not in names]
    return target, compared


def _read_scalar(node: JsonNode, kind: str, path: str, values: FieldValues) -> tuple[Any, Any]:
    value = node.value
    if isinstance(value, dict | list):
        values.repairs.append(f"{path} must be a single value, got {_short(node)}")
        return None, None
    if isinstance(value, str):
        value = value.strip()
        if not value:
            return None, None
    values.places[path] = (node.start, node.end)
    if kind in ("text", "lowercase"):
        text = value if isinstance(value, str) else json.dumps(value)
        return text, text.lower() if kind == "lowercase" else text
    normalized = _NORMALIZERS[kind](value)
    if normalized is None:
        values.repairs.append(f"{path} must be a {kind}, got {_short(node)}")
        return value, value
    return normalized, normalized


def parse_number(value: Any) -> int | float | None:
    """Return a number, also from a text with separators and a currency; None if it is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        digits = _DECORATION.sub("", value.replace("−", "-"))
        if not _NUMBER_TEXT.fullmatch(digits):
            return None
        value = float(_without_thousands(digits))
    if not math.isfinite(value):
        return None
    return int(value) if value == int(value) else float(value)


_DECORATION = re.compile(r"\s+|^[^\d+\-.,\w]+|[^\d\w]+$|^(?:[A-Z]{3}|Rp\.?|RM|kr)|(?:[A-Z]{3}|kr)$")
"""Spaces, currency signs and codes around a number."""
_NUMBER_TEXT = re.compile(r"[+-]?[0-9]{1,300}(?:[.,'][0-9]+)*")


def _without_thousands(digits: str) -> str:
    digits = digits.replace("'", "")
    comma, point = digits.rfind(","), digits.rfind(".")
    if comma >= 0 and point >= 0:
        thousands = "," if comma < point else "."
        digits = digits.replace(thousands, "")
    elif digits.count(",") > 1 or re.fullmatch(r"[+-]?[0-9]{1,3},[0-9]{3}", digits):
        return digits.replace(",", "")
    elif digits.count(".") > 1:
        return digits.replace(".", "")
    return digits.replace(",", ".") if digits.count(",") <= 1 else digits.replace(",", "")


_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_ISO_DATE = re.compile(r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})(?:[T ].*)?")
_NUMERIC_DATE = re.compile(r"(\d{1,2})[-/. ]+(\d{1,2})[-/. ]+(\d{4}|\d{2})")
_DAY_MONTH_YEAR = re.compile(
    r"(\d{1,2})(?:st|nd|rd|th)?[-. /]*([A-Za-z]{3})[a-z]*[-., /]*(\d{4}|\d{2})"
)
_MONTH_DAY_YEAR = re.compile(
    r"([A-Za-z]{3})[a-z]*[-. /]*(\d{1,2})(?:st|nd|rd|th)?[-., /]+(\d{4}|\d{2})"
)


def parse_date(value: Any, *, month_first: bool = False) -> str | None:
    """Return a date as YYYY-MM-DD; None if it is none. Two digits are a year from 2000 to 2099."""
    if not isinstance(value, str):
        return None
    if match := _ISO_DATE.fullmatch(value):
        year, month, day = match.groups()
    elif match := _NUMERIC_DATE.fullmatch(value):
        month, day = match.group(1, 2) if month_first else match.group(2, 1)
        year = match[3]
    elif match := _DAY_MONTH_YEAR.fullmatch(value):
        day, month, year = match.groups()
    elif match := _MONTH_DAY_YEAR.fullmatch(value):
        month, day, year = match.groups()
    else:
        return None
    if month.lower() in _MONTHS:
        month = str(_MONTHS.index(month.lower()) + 1)
    try:
        return datetime.date(int(year) + 2000 * (len(year) == 2), int(month), int(day)).isoformat()
    except ValueError:
        return None


def _parse_boolean(value: Any) -> bool | None:
    words = {"true": True, "yes": True, "false": False, "no": False}
    return value if isinstance(value, bool) else words.get(str(value).lower())


_NORMALIZERS: dict[str, Callable[[Any], Any]] = {
    "number": parse_number,
    "date": parse_date,
    "date_month_first": lambda value: parse_date(value, month_first=True),
    "boolean": _parse_boolean,
}


def infer_declaration(objects: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Return the declaration that fits all objects, in the order of first occurrence.

    A value that is a JSON number in every object is a number, a boolean in every object a boolean,
    any other a text. Dates are texts.

    Args:
        objects: (JSON text, location) of every object.

    Raises:
        ValueError: A field has values of different shapes, or no object has a value.
    """
    inferred: Any = None
    location = "task.fields"
    for text, location in objects:
        node, _ = parse_json_object(text)
        inferred = _merge(
            inferred, None if node is None else _shape(node.to_python()), "", location
        )
    if not inferred:
        raise ValueError(
            f"{location}: no row up to here has a field in column 'json'. Fill it in, or set "
            "task.fields."
        )
    declaration: dict[str, Any] = inferred
    return declaration


def _shape(value: Any) -> Any:
    if isinstance(value, dict):
        shapes = {name: _shape(each) for name, each in value.items()}
        return {name: shape for name, shape in shapes.items() if shape is not None} or None
    if isinstance(value, list):
        merged = None
        for item in value:
            merged = _merge(merged, _shape(item), "[]", "")
        return None if merged is None else [merged]
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        return "boolean"
    return "number" if isinstance(value, int | float) else "text"


def _merge(first: Any, second: Any, path: str, location: str) -> Any:
    if first is None or second is None or first == second:
        return second if first is None else first
    if isinstance(first, list) or isinstance(second, list):
        one, two = (each[0] if isinstance(each, list) else each for each in (first, second))
        return [_merge(one, two, path, location)]
    if isinstance(first, dict) and isinstance(second, dict):
        names = [*first, *(name for name in second if name not in first)]
        return {
            name: _merge(first.get(name), second.get(name), _join(path, name), location)
            for name in names
        }
    if isinstance(first, dict) or isinstance(second, dict):
        raise ValueError(
            f"{location}: field {path!r} is an object in some rows and a single value in others. "
            "Correct the data, or declare task.fields."
        )
    return "text"


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _short(node: JsonNode) -> str:
    text = json.dumps(node.to_python(), ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
