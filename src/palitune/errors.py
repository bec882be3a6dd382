"""Every error class, the exit codes, and the sentences that several modules share."""

import difflib
import math
import re
import sys
from collections.abc import Iterable
from typing import Any, get_type_hints

FAILED, USAGE_ERROR, PREEMPTED, INTERRUPTED = 1, 2, 75, 130
"""Exit codes: a failed run, an invalid command line, a run ended by SIGTERM (EX_TEMPFAIL of
sysexits.h, so that a scheduler can requeue it), and Ctrl-C (128 + SIGINT)."""
CLOSED_PIPE = 141
"""Exit code of a program whose output nobody reads any more (128 + SIGPIPE)."""


_LINE_BREAKS = re.compile(r"\s*[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]\s*")
_MAX_PRINTED_CHARACTERS = 500
_MAX_STORED_CHARACTERS = 1500
"""Characters of an error's text, which may list valid names; one that is printed is shorter."""


def one_line(text: str) -> str:
    """Return a text with a space for each line break: messages may quote values and libraries."""
    return _LINE_BREAKS.sub(" ", text)


def shorten(text: str, max_characters: int) -> str:
    """Return a text without its middle if it is longer."""
    if len(text) <= max_characters:
        return text
    half = max_characters // 2 - 2
    return f"{text[:half]}...{text[-half:]}"


class _OneLineError(Exception):
    """An error whose text is one line of bounded length, whatever it quotes."""

    def __init__(self, text: str = "") -> None:
        super().__init__(shorten(one_line(text), _MAX_STORED_CHARACTERS))


class ConfigError(_OneLineError, ValueError):
    """Invalid command line or configuration; the text is one sentence that names the way out."""


class DataError(_OneLineError, ValueError):
    """Invalid user data; the text names the place (`file:line`) and the way out."""


class LeftOut(DataError):
    """A row or object that is left out and counted, because no training could use it."""

    def __init__(self, reason: str, location: str) -> None:
        super().__init__(f"{location}: {reason}")
        self.reason = reason
        self.location = location


class ModelError(_OneLineError, ValueError):
    """A base model or an adapter that cannot be used; the text names the cause and the way out."""


class MetricError(DataError):
    """A metric that cannot be computed here; the text names what is missing."""


class EndpointError(ModelError):
    """A server that cannot be evaluated, or whose answers differ; the text names the way out."""


class TrainingError(_OneLineError, RuntimeError):
    """Training that cannot start or continue; the text names the cause and the way out."""


class SelfCheckError(TrainingError):
    """A failed check of mask, labels, tokens or adapter before training."""


def check_ranges(settings: object, group: str = "") -> None:
    """Raise ValueError if a field of a dataclass is outside the range of its annotation.

    A range is part of the type, with the bounds of the library annotated-types:
    `rank: Annotated[int, Ge(1)] = 8`. A field that is None has no range.

    Args:
        settings: A dataclass instance, usually `self` in `__post_init__`.
        group: Configuration group for the error message, e.g. "training".
    """
    for name, hint in get_type_hints(type(settings), include_extras=True).items():
        bounds = getattr(hint, "__metadata__", ())
        value = getattr(settings, name, None)
        if value is not None and not all(_satisfies(value, bound) for bound in bounds):
            key = f"{group}.{name}" if group else name
            raise ValueError(f"{key} must be {describe_range(bounds)}, got {value}.")


def describe_range(bounds: Iterable[Any]) -> str:
    """Describe bounds in words, e.g. "above 0 and at most 1"."""
    words = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
    return " and ".join(
        f"{text} {limit:g}"
        for bound in bounds
        for attribute, text in words.items()
        if (limit := getattr(bound, attribute, None)) is not None
    )


def _satisfies(value: float, bound: Any) -> bool:
    """Return whether a number satisfies a bound; NaN satisfies none."""
    gt, ge = getattr(bound, "gt", None), getattr(bound, "ge", None)
    lt, le = getattr(bound, "lt", None), getattr(bound, "le", None)
    return (
        not math.isnan(value)
        and (gt is None or value > gt)
        and (ge is None or value >= ge)
        and (lt is None or value < lt)
        and (le is None or value <= le)
    )


def unknown_choice(
    kind: str, name: str, valid: Iterable[str], suggestion: str | None = None
) -> str:
    """Return a sentence about a name that does not exist, with the valid ones.

    `suggestion` is a known synonym; without it, a similar name is suggested.
    """
    names = list(valid)
    hint = f" (did you mean '{suggestion}'?)" if suggestion else did_you_mean(name, names)
    return f"there is no {kind} '{name}'{hint}; valid are {', '.join(names)}"


def unknown_key(key: str, valid: Iterable[object], suggestion: str | None = None) -> str:
    """Return a sentence about a dotted key that does not exist, with the valid keys beside it.

    `suggestion` is a known synonym; a similar key has priority.
    """
    parent, _, last = key.rpartition(".")
    names = [str(name) for name in valid]
    scope = f" of {parent}" if parent else ""
    hint = did_you_mean(last, names) or (f" (did you mean '{suggestion}'?)" if suggestion else "")
    return f"there is no key '{key}'{hint}; the keys{scope} are {', '.join(names)}"


def missing_choice(group: str, options: Iterable[str]) -> str:
    """Return a sentence about a group from which an option must be chosen."""
    names = list(options)
    return f"{group} is missing: choose one of {', '.join(names)} ({group}={names[0]})"


def missing_value(key: str, description: str) -> str:
    """Return a sentence about a required key; `description` is the help sentence of its field."""
    return f"{key} is missing: write {key}=..." + (
        f" ({description.rstrip('.')})" if description else ""
    )


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """Return ` (did you mean 'x'?)` if a valid word is similar, else an empty string."""
    near = difflib.get_close_matches(name, list(valid), n=1)
    return f" (did you mean '{near[0]}'?)" if near else ""


def print_error(message: str) -> None:
    """Print an error to stderr, as one line of at most 500 characters; the middle is left out."""
    line = shorten(one_line(message), _MAX_PRINTED_CHARACTERS)
    print(f"palitune: {line}", file=sys.stderr)
